package redisbus_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/faultproxy"
	"github.com/crosscast/crosscast/internal/redistest"
	"github.com/crosscast/crosscast/wire"
)

// TestWhatOutlastsTheClientsTimeouts: what the bytes need is up to the caller's context. Hooks see each frame that the
// client's time-outs suffice for, also where they do not suffice for the batch.
func TestWhatOutlastsTheClientsTimeouts(t *testing.T) {
	s := redistest.Start(t, redistest.Config{})
	rdb, p := through(t, s, func(o *redis.Options) {
		o.ReadTimeout, o.WriteTimeout, o.MaxRetries = time.Second, time.Second, -1
	})
	var published redistest.Publications
	rdb.AddHook(&published)
	bus := newBus(rdb)
	p.Set(faultproxy.Up, faultproxy.Faults{Rate: 700 << 10})
	publish := func(texts ...string) { // with the time that a node gives 1 MiB on this link
		t.Helper()
		all := frames("cc:a", texts...)
		bus.Publish(redistest.Within(t, 5*time.Second), all)
		for i := range all {
			if all[i].Err != nil {
				t.Fatalf("frame %d: %v", i, all[i].Err)
			}
		}
	}
	publish(strings.Repeat("x", 1<<20))
	if n := len(published.Seen()); n != 0 {
		t.Errorf("hooks have seen %d large frames: the documentation says that they do not", n)
	}
	var parts []string
	for range 16 {
		parts = append(parts, strings.Repeat("x", 64<<10))
	}
	publish(parts...)
	if n := len(published.Seen()); n != len(parts) {
		t.Errorf("hooks have seen %d frames of a batch, want %d", n, len(parts))
	}
}

// TestADeniedFrameOfALargeBatch: that the server refuses a frame says nothing of those that go out after it.
func TestADeniedFrameOfALargeBatch(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw resetchannels &cc:* +@all"}})
	o := s.Options()
	o.Username, o.Password = "alice", "pw"
	o.ReadTimeout, o.WriteTimeout, o.MaxRetries = time.Second, time.Second, -1
	bus := newBus(redistest.Client(t, o))
	var texts []string
	for range 16 {
		texts = append(texts, strings.Repeat("x", 64<<10))
	}
	all := frames("cc:a", texts...)
	all[0].Topic = "another"
	bus.Publish(redistest.Within(t, 5*time.Second), all)
	if !errors.Is(all[0].Err, crosscast.ErrDenied) || all[0].Down {
		t.Errorf("the denied frame: %v, down %v", all[0].Err, all[0].Down)
	}
	for i := range all[1:] {
		if f := &all[i+1]; f.Err != nil || f.Down {
			t.Fatalf("frame %d: %v, down %v", i+1, f.Err, f.Down)
		}
	}
}

// TestWhoMayNotAskForTheRole: nor does the refusal of the question for the server's role, which goes with the first part.
func TestWhoMayNotAskForTheRole(t *testing.T) {
	s := redistest.Start(t, redistest.Config{Users: []string{"alice on >pw resetchannels &cc:* +@all -role"}})
	o := s.Options()
	o.Username, o.Password = "alice", "pw"
	o.ReadTimeout, o.WriteTimeout, o.MaxRetries = time.Second, time.Second, -1
	bus := newBus(redistest.Client(t, o))
	l := listen(t, bus)
	var texts []string
	for range 16 {
		texts = append(texts, strings.Repeat("x", 64<<10))
	}
	asked := make(chan error, 1)
	go func() {
		_, err := bus.(wire.Mover).Moved(t.Context(), l.link)
		asked <- err
	}()
	for {
		all := frames("cc:a", texts...)
		bus.Publish(redistest.Within(t, 5*time.Second), all)
		for i := range all {
			if all[i].Err != nil {
				t.Fatalf("frame %d: %v", i, all[i].Err)
			}
		}
		select {
		case err := <-asked:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}
