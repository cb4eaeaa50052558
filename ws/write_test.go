package ws_test

import (
	"bufio"
	"context"
	"crypto/tls"
	bigendian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/wstest"
	"github.com/crosscast/crosscast/ws"
)

// readFrame reads a frame of the server. It returns an error for one that RFC 6455 does not allow, and for messages in
// several frames, which the server never makes.
func readFrame(r io.Reader) (op byte, payload []byte, err error) {
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return 0, nil, err
	}
	op = head[0] & 0x0f
	size := uint64(head[1])
	switch {
	case head[0]&0xf0 != 0x80:
		return 0, nil, fmt.Errorf("first byte %x", head[0])
	case op > 2 && op < 8 || op > 10 || op == 0:
		return 0, nil, fmt.Errorf("opcode %d", op)
	case size >= 0x80:
		return 0, nil, errors.New("masked")
	case size > 125 && op >= 8:
		return 0, nil, fmt.Errorf("a control frame of size %d", size)
	case size == 126:
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return 0, nil, noEOF(err)
		}
		if size = uint64(bigendian.BigEndian.Uint16(head)); size < 126 {
			return 0, nil, fmt.Errorf("size %d in two bytes", size)
		}
	case size == 127:
		if _, err := io.ReadFull(r, head[:8]); err != nil {
			return 0, nil, noEOF(err)
		}
		if size = bigendian.BigEndian.Uint64(head); size < 1<<16 || size > 1<<30 {
			return 0, nil, fmt.Errorf("size %d in eight bytes", size)
		}
	}
	payload = make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, noEOF(err)
	}
	if op == 1 && !utf8.Valid(payload) || op == 8 && (size == 1 || size > 2 && !utf8.Valid(payload[2:])) {
		return 0, nil, fmt.Errorf("opcode %d with %q", op, payload)
	}
	return op, payload, nil
}

// noEOF is the error of a frame that ends in its middle.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rawDial makes the handshake, and returns the connection and its reader.
func rawDial(t *testing.T, s *httptest.Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if s.TLS != nil {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	t.Cleanup(func() { _ = conn.Close() })
	r, err := http.NewRequest(http.MethodGet, "http://example.com/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = wstest.Upgrade()
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	return conn, reader
}

// TestPingFloodDuringBroadcast: control frames are between the frames of messages, whatever the sizes of these, and
// nothing follows a closing frame.
func TestPingFloodDuringBroadcast(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			n := wstest.StartNode(t, crosscast.Options{})
			s := httptest.NewUnstartedServer(newServer(t, n, ws.Options{
				PingInterval: time.Millisecond, Queue: crosscast.QueueOptions{Limit: 1 << 30},
			}))
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			conn, reader := rawDial(t, s)
			const messages = 5_000
			var socket *crosscast.Socket
			for socket == nil {
				for info := range n.Everyone().Local().Sockets(t.Context(), crosscast.Fields{ID: true}).All() {
					socket = n.Socket(info.ID)
				}
			}
			both := make(chan struct{}) // closed once a ping and a pong have come
			go func() {
				for i := range messages {
					size := rand.IntN(300)
					if i%1000 == 0 {
						size = rand.IntN(200_000)
					}
					if err := n.Emit(context.Background(), strconv.Itoa(i), strings.Repeat("x", size)); err != nil {
						t.Error(err)
					}
				}
				select {
				case <-both:
				case <-time.After(wstest.Patience):
				}
				socket.Close("enough")
			}()
			go func() { // until the server has closed
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(conn, "\x89\x87\x00\x00\x00\x00%07d", i); err != nil {
						return
					}
				}
			}()
			next, pong, pongs, pings := 0, -1, 0, 0
			var once sync.Once
			for {
				op, payload, err := readFrame(reader)
				if err != nil {
					t.Fatalf("after message %d: %v", next, err)
				}
				if pongs > 0 && pings > 0 {
					once.Do(func() { close(both) })
				}
				switch op {
				case 1:
					if want := `{"event":"` + strconv.Itoa(next) + `"`; !strings.HasPrefix(string(payload), want) {
						t.Fatalf("%.40q came, want %s", payload, want)
					}
					next++
				case 9:
					pings++
				case 10:
					i, err := strconv.Atoi(string(payload))
					if err != nil || i <= pong {
						t.Fatalf("pong %q after %d", payload, pong)
					}
					pong = i
					pongs++
				case 8:
					if next != messages || string(payload) != "\x03\xe8enough" {
						t.Errorf("closed with %q after %d messages", payload, next)
					}
					t.Logf("%d pongs, %d pings", pongs, pings)
					if pongs == 0 || pings == 0 {
						t.Error("no control frames")
					}
					if _, err := conn.Write([]byte("\x88\x82\x00\x00\x00\x00\x03\xe8")); err != nil {
						t.Log(err)
					}
					if op, payload, err := readFrame(reader); err == nil {
						t.Errorf("a frame after the closing frame: %d %q", op, payload)
					}
					return
				default:
					t.Fatalf("opcode %d", op)
				}
			}
		})
	}
}

// A hidingListener hides the kind of its connections, which have TLS.
type hidingListener struct{ net.Listener }

func (l hidingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}

// TestHiddenTLS: a write that ends at its deadline breaks a TLS connection, also one that does not look like TLS. A
// client that takes its time, and sends a ping during a batch, is kept.
func TestHiddenTLS(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	s := httptest.NewUnstartedServer(newServer(t, n, ws.Options{PingInterval: -1, Queue: crosscast.QueueOptions{Limit: 1 << 30}}))
	other := httptest.NewTLSServer(nil)
	defer other.Close()
	s.TLS = &tls.Config{Certificates: other.TLS.Certificates}
	s.Listener = hidingListener{tls.NewListener(s.Listener, s.TLS)}
	s.Start()
	t.Cleanup(s.Close)
	conn, reader := rawDial(t, s)
	const messages = 2000 // 20 MB are more than the buffers of the system
	for n.Stats().Sockets == 0 {
		time.Sleep(time.Millisecond) // poll
	}
	for range messages {
		if err := n.Emit(t.Context(), "x", strings.Repeat("x", 10_000)); err != nil {
			t.Error(err)
		}
	}
	if _, err := io.WriteString(conn, "\x89\x80\x00\x00\x00\x00"); err != nil {
		t.Error(err)
	}
	time.Sleep(400 * time.Millisecond) // lasts longer than a batch may take elsewhere
	for i, pongs := 0, 0; i < messages || pongs == 0; {
		op, _, err := readFrame(reader)
		if err != nil || op == 8 {
			t.Fatalf("after %d messages: %d, %v", i, op, err)
		}
		if op == 1 {
			i++
		} else {
			pongs++
		}
	}
}

// trickle reads at a rate, in steps of 10 ms, and passes on what it reads.
func trickle(conn net.Conn, perSecond int) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		b := make([]byte, perSecond/100)
		for {
			time.Sleep(10 * time.Millisecond)
			n, err := conn.Read(b)
			if _, gone := w.Write(b[:n]); gone != nil || err != nil {
				_ = w.CloseWithError(err)
				return
			}
		}
	}()
	return r
}

// TestTrickle: a client that finishes a frame in each WriteTimeout is not closed, whatever the size of a batch. A client
// that finishes none is.
func TestTrickle(t *testing.T) {
	for _, c := range []struct {
		perSecond, size int
		timeout         time.Duration
		closes          bool
	}{
		{5000, 100, 10 * time.Second, false},
		{5000, 100, time.Second, false},
		{5000, 4000, time.Second, false},
		{500, 100, time.Second, false},
		{500, 1000, time.Second, true}, // two seconds a frame
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := wstest.StartNode(t, crosscast.Options{})
				gone, ended := wstest.Disconnects()
				_, conn := dialInMemory(t, newServer(t, n, ws.Options{
					WriteTimeout: c.timeout, PingInterval: -1, OnDisconnect: gone, Queue: crosscast.QueueOptions{BurstTime: -1},
				}))
				count := 100_000 / c.size
				for i := range count {
					if err := n.Emit(t.Context(), strconv.Itoa(i), strings.Repeat("x", c.size)); err != nil {
						t.Error(err)
					}
				}
				r := trickle(conn, c.perSecond)
				defer func() {
					_ = r.Close()
					_ = conn.Close()
					time.Sleep(time.Second) // its goroutine ends
				}()
				for i := range count {
					_, payload, err := readFrame(r)
					if err != nil && c.closes {
						if e := <-ended; e.Reason != crosscast.ReasonSlow {
							t.Errorf("%+v", e)
						}
						return
					}
					if want := `{"event":"` + strconv.Itoa(i) + `"`; err != nil || !strings.HasPrefix(string(payload), want) {
						t.Fatalf("%.40q, %v, want %s", payload, err, want)
					}
				}
				if c.closes || len(ended) > 0 {
					t.Errorf("all was read; closed: %d", len(ended))
				}
			})
		})
	}
}

// TestStops: a client that reads some frames of a batch, and then nothing, is closed after WriteTimeout.
func TestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := wstest.StartNode(t, crosscast.Options{})
		gone, ended := wstest.Disconnects()
		_, conn := dialInMemory(t, newServer(t, n, ws.Options{WriteTimeout: 4 * time.Second, OnDisconnect: gone}))
		for range 100 {
			_ = n.Emit(t.Context(), "x", strings.Repeat("x", 100))
		}
		time.Sleep(100 * time.Millisecond)
		_, _ = io.ReadFull(conn, make([]byte, 1000))
		if e := <-ended; e.Reason != crosscast.ReasonSlow || e.After < 4*time.Second || e.After > 5*time.Second {
			t.Errorf("%+v", e)
		}
	})
}

// TestBeforeWhatWaits: a pong, and a closing frame, come after the frame that a slow client is reading, before the rest
// of its batch.
func TestBeforeWhatWaits(t *testing.T) {
	for _, c := range []struct {
		sends  string
		op     byte
		want   string
		atOnce bool // before the client has become slow
	}{
		{"\x89\x81\x00\x00\x00\x00a", 10, "a", true},
		{"\x89\x81\x00\x00\x00\x00a", 10, "a", false},
		{"\x83\x80\x00\x00\x00\x00", 8, "\x03\xeaunknown opcode", true},
		{"\x88\x82\x00\x00\x00\x00\x03\xe9", 8, "\x03\xe9", true},
	} {
		t.Run(fmt.Sprintf("%q", c.want), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := wstest.StartNode(t, crosscast.Options{})
				_, conn := dialInMemory(t, newServer(t, n, ws.Options{PingInterval: -1}))
				_ = n.Emit(t.Context(), "x", nil)
				synctest.Wait()
				for range 10 {
					_ = n.Emit(t.Context(), "x", nil)
				}
				for range 2 { // the first, and one of the batch
					if _, _, err := readFrame(conn); err != nil {
						t.Fatal(err)
					}
				}
				if !c.atOnce {
					time.Sleep(time.Second)
				}
				if _, err := io.WriteString(conn, c.sends); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				op, payload, err := readFrame(conn)
				left := 9
				if op == 1 { // was under way
					left--
					op, payload, err = readFrame(conn)
				}
				if err != nil || op != c.op || string(payload) != c.want {
					t.Errorf("got %d %q, %v, want %q", op, payload, err, c.want)
				}
				if op == 8 {
					if op, payload, err := readFrame(conn); err == nil {
						t.Errorf("a frame after the closing frame: %d %q", op, payload)
					}
					return
				}
				for range left {
					if op, _, err := readFrame(conn); err != nil || op != 1 {
						t.Fatal(op, err)
					}
				}
				_ = conn.Close()
			})
		})
	}
}

// TestCompressedOnce: clients with and without compression get the same messages, each of which is framed once for each
// kind, and compressed once.
func TestCompressedOnce(t *testing.T) {
	n := wstest.StartNode(t, crosscast.Options{})
	envelope := &binary{}
	h := accept(newServer(t, n, ws.Options{CompressFrom: 100, Envelope: envelope}), ws.Client{})
	var clients []*client
	for i := range 6 {
		o := websocket.DialOptions{}
		if i%2 == 0 {
			o.CompressionMode = websocket.CompressionContextTakeover
		}
		conn, _ := wstest.DialWith(t, "ws://example.com", h, o)
		clients = append(clients, &client{&wstest.Client{T: t, Conn: conn}})
	}
	for _, text := range []string{strings.Repeat("large ", 100_000), "small"} {
		before := envelope.frames.Load()
		if err := n.Emit(t.Context(), "x", crosscast.Bytes(text)); err != nil {
			t.Error(err)
		}
		for _, c := range clients {
			c.Expect("bytes:x:" + text)
		}
		if made := envelope.frames.Load() - before; made != 2 {
			t.Errorf("framed %d times", made)
		}
	}
}
