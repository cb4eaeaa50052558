package socketio_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/memtest"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/socketio"
)

const hole = `{"_placeholder":true,"num":`

// TestMaxPacket: a packet that waits for attachments is bounded, and the log names the limit.
func TestMaxPacket(t *testing.T) {
	var log buffer
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	url := wstest.Serve(t, newServer(t, n, socketio.Options{MaxPayload: 1000})).URL // so MaxPacket is 2,000
	for _, size := range []int{900, 1000} {
		c := dial(t, url)
		c.join("/")
		c.send(`452-["echo",` + hole + `0},` + hole + `1}]`)
		for range 2 {
			c.Write(websocket.MessageBinary, make([]byte, size))
		}
		if size == 1000 {
			c.ExpectClose(websocket.StatusMessageTooBig, "packet too large, with its attachments")
			break
		}
		c.Expect(`452-["echo",` + hole + `0},` + hole + `1}]`)
	}
	if got := log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "Options.MaxPacket") {
		t.Errorf("logged %s", got)
	}
}

// TestMaxArguments: each argument takes memory in addition to its text.
func TestMaxArguments(t *testing.T) {
	for _, count := range []int{1 << 16, 1<<16 + 1} {
		got := make(chan int, 1)
		c, _ := connect(t, socketio.Options{Namespaces: namespaces(socketio.Namespace{Events: socketio.Events{
			"n": func(_ context.Context, _ *crosscast.Socket, args socketio.Args) error {
				got <- args.Len()
				return nil
			},
		}})})
		c.send(`42["n"` + strings.Repeat(",1", count) + `]`)
		if count > 1<<16 {
			c.ExpectClose(websocket.StatusProtocolError, "too many arguments")
		} else if n := wstest.Wait(t, got, "the event"); n != count {
			t.Errorf("%d arguments", n)
		}
	}
}

// TestLateAttachments: a client that begins a packet and does not end it is closed, whatever else it sends. Another
// client sends its attachments slowly.
func TestLateAttachments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		s := newServer(t, n, socketio.Options{PingInterval: 10 * time.Second, PingTimeout: 5 * time.Second})
		c, _ := dialInMemory(t, s)
		c.join("/")
		c.send(`453-["echo",` + hole + `0},` + hole + `1},` + hole + `2}]`)
		for range 3 {
			for range 2 { // pings
				c.Expect("2")
				c.send("3")
				if time.Sleep(time.Second); s.Stats().Timeouts > 0 {
					t.Fatal("closed")
				}
				break
			}
			c.Write(websocket.MessageBinary, []byte{1})
		}
		c.Expect(`453-["echo",`+hole+`0},`+hole+`1},`+hole+`2}]`, "bytes:\x01", "bytes:\x01", "bytes:\x01")

		c.send(`452-["echo",` + hole + `0},` + hole + `1}]`)
		c.Write(websocket.MessageBinary, []byte{1})
		begin := time.Now()
		c.Expect("2")
		c.send("3")
		c.ExpectClose(websocket.StatusPolicyViolation, "timed out")
		if took := time.Since(begin); took != 15*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

// TestHostileClients: clients that try everything that can grow keep bounded memory while they are there, and none when
// they have left. CROSSCAST_HOSTILE is the time for which they try; by default a second.
func TestHostileClients(t *testing.T) {
	duration := time.Second
	if text := os.Getenv("CROSSCAST_HOSTILE"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	n := wstest.StartNode(t, crosscast.Options{Logger: slog.New(slog.DiscardHandler)})
	nsps := map[string]*socketio.Namespace{}
	for _, name := range []string{"/", "/a", "/b"} {
		nsps[name] = &socketio.Namespace{Events: socketio.Events{
			"echo": echo["echo"],
			"slow": func(ctx context.Context, _ *crosscast.Socket, _ socketio.Args) error {
				select {
				case <-time.After(10 * time.Millisecond):
				case <-ctx.Done():
				}
				return nil
			},
		}}
	}
	// That a client has left while reading pauses shows at the second ping, and then it has LeaveTimeout: in all less than
	// the test waits.
	s := newServer(t, n, socketio.Options{
		Namespaces: nsps, OnError: func(*crosscast.Socket, string, error) {},
		PingInterval: 2 * time.Second, PingTimeout: 2 * time.Second, LeaveTimeout: time.Second,
	})
	url := wstest.Serve(t, s).URL
	// settle waits until all have left and their events are handled, and then for the heap.
	settle := func(most int) (heapInUse int) {
		for begin := time.Now(); time.Since(begin) < wstest.Patience; time.Sleep(10 * time.Millisecond) { // poll
			if s.Stats().Connections > 0 || n.Stats().Sockets > 0 {
				continue
			}
			if heapInUse = int(memtest.Heap()); heapInUse <= most {
				break
			}
		}
		return heapInUse
	}
	const each = 20 // clients of each kind
	large := strings.Repeat("x", 900_000)
	kinds := map[string]func(write func(websocket.MessageType, string) bool){
		"attachments that do not end": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, `4510-["e"]`)
			write(websocket.MessageBinary, large)
		},
		"attachments": func(write func(websocket.MessageType, string) bool) {
			if write(websocket.MessageText, `4510-["slow",`+hole+`0}]`) {
				for range 10 {
					write(websocket.MessageBinary, large[:180_000])
				}
			}
		},
		"many arguments": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, `42["slow"`+strings.Repeat(",1", 1<<16)+`]`)
		},
		"large events": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, `42["slow","`+large+`"]`)
		},
		"small events": func(write func(websocket.MessageType, string) bool) { write(websocket.MessageText, `42["slow"]`) },
		"large auth in each namespace": func(write func(websocket.MessageType, string) bool) {
			for _, nsp := range []string{"", "/a,", "/b,", "/none,"} {
				write(websocket.MessageText, "40"+nsp+`{"token":"`+large[:16_000]+`"}`)
				write(websocket.MessageText, "40"+nsp+`{"token":"`+large+`"}`)
			}
		},
		"namespaces of any name": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, fmt.Sprintf("40/%d%s,", rand.Uint64(), large[:10_000]))
		},
		"connects again and again": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, "40/a,")
			write(websocket.MessageText, "41/a,")
		},
		"events that are answered and not read": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, `421["echo","`+large[:1000]+`"]`)
		},
		"acknowledgements of nothing": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, fmt.Sprintf(`43%d["x"]`, rand.Uint64()>>12))
		},
		"no packet": func(write func(websocket.MessageType, string) bool) {
			write(websocket.MessageText, fmt.Sprintf(`b%s!%d`, large[:100], rand.Uint64()))
		},
		"large headers": func(func(websocket.MessageType, string) bool) {},
	}
	var peak atomic.Int64
	attack := func(duration time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), duration)
		defer cancel()
		var all sync.WaitGroup
		for name, run := range kinds {
			for range each {
				all.Go(func() {
					for ctx.Err() == nil {
						header := http.Header{"X-Filler": {large[:12_000]}}
						if name == "large headers" {
							header.Set("X-Filler", large)
						}
						conn, _, err := websocket.Dial(ctx, url+query, &websocket.DialOptions{HTTPHeader: header})
						if err != nil {
							continue
						}
						write := func(typ websocket.MessageType, m string) bool {
							return conn.Write(ctx, typ, []byte(m)) == nil
						}
						for ok := write(websocket.MessageText, "40"); ok && ctx.Err() == nil; {
							run(func(typ websocket.MessageType, m string) bool {
								ok = ok && write(typ, m)
								return ok
							})
							if name == "attachments that do not end" || name == "large headers" {
								<-ctx.Done()
							}
						}
						conn.CloseNow()
					}
				})
			}
		}
		all.Go(func() {
			for ctx.Err() == nil {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), int64(m.HeapAlloc)))
				time.Sleep(50 * time.Millisecond) // lasts
			}
		})
		all.Wait()
	}
	attack(200 * time.Millisecond) // fills pools and makes one-time allocations
	base := settle(8 << 20)
	attack(duration)
	if after := settle(base + 2<<20); after == 0 || after > base+2<<20 {
		t.Errorf("a heap of %d KiB, and %d KiB when they have left: %+v", base>>10, after>>10, s.Stats())
	}
	if most := int64(each * len(kinds) * (8 << 20)); peak.Load() > most {
		t.Errorf("a heap of %d MiB meanwhile", peak.Load()>>20)
	}
	c := dial(t, url)
	c.join("/")
	c.send(`42["echo"]`)
	c.Expect(`42["echo"]`)
	t.Logf("heap: %d KiB at first, %d MiB at most; %+v", base>>10, peak.Load()>>20, s.Stats())
}
