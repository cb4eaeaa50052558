package socketioadapter_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

// TestLargeAnswers: a server answers with one message. An answer that does not fit is sent with empty handshakes, and
// this is logged once. If it still does not fit, nothing is sent, and this is logged, too.
func TestLargeAnswers(t *testing.T) {
	inEachMode(t, func(t *testing.T, o socketioadapter.Options) {
		var log bytes.Buffer
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.MaxFrame = 64 << 10
		s := newSide(t, "bbbbbbbb", o)
		answer := func(i, sockets int, handshake, data string) []sent {
			t.Helper()
			requests, fetch := "socket.io-request#/#", `{"uid":"uuuuuu","requestId":"%d","type":5,"opts":{}}`
			if o.Mode == socketioadapter.Sharded {
				requests, fetch = "socket.io#/#", `{"uid":"uuuuuu","nsp":"/","type":7,"data":{"requestId":"%d","opts":{}}}`
			}
			if told := s.read(sent{channel: requests, data: fmt.Sprintf(fetch, i)}); len(told) != 1 {
				t.Fatalf("told %q", told)
			}
			in := &crosscast.Instruction{Kind: kind.Answer, To: "uuuuuu", Ref: fmt.Sprint(i), Answer: &crosscast.Answer{Last: true}}
			for j := range sockets {
				in.Answer.Sockets = append(in.Answer.Sockets, crosscast.SocketInfo{
					ID: crosscast.SocketID(fmt.Sprintf("bbbbbbbb%012d", j)), Rooms: []string{"r"},
					Handshake: []byte(`{"url":"` + handshake + `"}`), Data: []byte(`{"data":"` + data + `"}`),
				})
			}
			return s.write(in)
		}
		long := strings.Repeat("h", 1000)
		if all := answer(1, 40, long, "x"); len(all) != 1 || strings.Count(all[0].data, long) != 40 {
			t.Errorf("an answer that fits: %.100q", all)
		}
		for i := range 3 {
			all := answer(2+i, 200, long, "x")
			if len(all) != 1 || len(all[0].data) > o.MaxFrame || strings.Contains(all[0].data, long) ||
				strings.Count(all[0].data, `"handshake":{"headers":{},`) != 200 || strings.Count(all[0].data, `{"data":"x"}`) != 200 {
				t.Errorf("an answer that does not fit: %.300q", all)
			}
			if all := answer(12+i, 200, "h", long); len(all) != 0 {
				t.Errorf("an answer that cannot fit: %.100q", all)
			}
		}
		// One client's reply must not silence the others.
		broadcast := sent{channel: "socket.io-request#/#", data: `{"uid":"uuuuuu","requestId":"99","type":7,"opts":{},` +
			`"packet":{"data":["e"]}}`}
		if o.Mode == socketioadapter.Sharded {
			broadcast = sent{channel: "socket.io#/#", data: `{"uid":"uuuuuu","nsp":"/","type":3,"data":{"requestId":"99","opts":{},` +
				`"packet":{"data":["e"]}}}`}
		}
		s.read(broadcast)
		all := s.write(&crosscast.Instruction{Kind: kind.Answer, To: "uuuuuu", Ref: "99", Answer: &crosscast.Answer{
			Last: true, Count: 2, Replies: []crosscast.Reply{
				{Socket: socketA, Payload: jsonOf(`"` + strings.Repeat("x", 64<<10) + `"`)}, {Socket: socketB, Payload: jsonOf("1")},
			},
		}})
		if len(all) != 2 { // the number of clients, and the second reply
			t.Errorf("of a reply that is too large and another came %d messages", len(all))
		}
		want := map[string]uint64{"handshakes": 6, "answers": 3, "reply": 1}
		if got := socketioadapter.Dropped(s.Dialect); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("counted are %v instead of %v", got, want)
		}
		if n := strings.Count(log.String(), "without their handshakes"); n != 1 {
			t.Errorf("that handshakes are left out is said %d times:\n%s", n, log.String())
		}
		if n := strings.Count(log.String(), "too large, and so is none"); n != 1 {
			t.Errorf("that an answer is none is said %d times:\n%s", n, log.String())
		}
	})
}

// TestLongPatience: queries with a timeout of an hour leave room for queries with seconds, and no query is open for
// longer than an hour.
func TestLongPatience(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSide(t, "aaaaaaaa", classic)
		var ttl time.Duration
		s.node = func(in *crosscast.Instruction) { ttl = in.TTL }
		asked := 0
		ask := func(timeout time.Duration) bool {
			asked++
			return len(s.read(sent{channel: "socket.io-request#/#", data: fmt.Sprintf(
				`{"uid":"u%d","requestId":"%d","type":7,"packet":{"data":["e"]},"opts":{"flags":{"timeout":%d}}}`,
				asked, asked, timeout.Milliseconds())})) == 1
		}
		taken := func(timeout time.Duration) (n int) {
			for range 4096 {
				if ask(timeout) {
					n++
				}
			}
			return n
		}
		if n := taken(time.Hour); n != 1024 {
			t.Errorf("of questions of an hour %d are taken", n)
		}
		if n := taken(time.Minute); n != 1024 {
			t.Errorf("of questions of a minute %d are taken beside them", n)
		}
		if n := taken(5 * time.Second); n != 2048 {
			t.Errorf("of questions of seconds %d are taken beside them", n)
		}
		time.Sleep(17 * time.Second) // lasts
		if !ask(0) || ttl != unsaid {
			t.Errorf("of a question whose asker does not say how long it waits the TTL is %v", ttl)
		}
		time.Sleep(time.Hour) // lasts
		if !ask(2*time.Hour) || ttl != time.Hour {
			t.Errorf("of a question of two hours the TTL is %v", ttl)
		}
	})
}
