package client_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crosscast/crosscast/ws/client"
)

// TestRetryAfter: a client that is refused comes back no sooner than the server says, and not much later.
func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration // 0: the client's own back-off
	}{
		{"7", 7 * time.Second}, {"9999", time.Minute}, {"", 0}, {"-1", 0}, {"soon", 0}, {"0", 0},
		{"99999999999999999999", time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Time
			var waits []time.Duration
			play := transport(func(w http.ResponseWriter, _ *http.Request) {
				at = append(at, time.Now())
				w.Header().Set("Retry-After", tt.header)
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			_, err := client.Dial(t.Context(), "ws://server/", client.Options{
				HTTPClient: play, MinBackoff: time.Second, MaxBackoff: time.Second,
				OnRetry: func(_ *client.Client, err error, wait time.Duration) {
					var status *client.StatusError
					if !errors.As(err, &status) || status.RetryAfter != tt.want {
						t.Errorf("%q: %v", tt.header, err)
					}
					waits = append(waits, wait)
				},
				GiveUp: func(error) bool { return len(at) == 2 },
			})
			if !errors.Is(err, client.ErrGaveUp) || len(at) != 2 {
				t.Fatalf("%q: %v after %d attempts", tt.header, err, len(at))
			}
			waited := at[1].Sub(at[0])
			least, most := tt.want, tt.want+time.Second
			if tt.want == 0 {
				least = 500 * time.Millisecond
			}
			if waited < least || waited > most || waits[0] != waited {
				t.Errorf("%q: came back after %v, OnRetry got %v", tt.header, waited, waits)
			}
		})
	}
}
