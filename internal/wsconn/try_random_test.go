//go:build unix && !aix

package wsconn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
)

// connectedLocally returns both ends of a connection without delays of its own.
func connectedLocally(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dialled.Close()
		_ = accepted.Close()
	})
	return accepted.(*net.UnixConn), dialled.(*net.UnixConn)
}

// A testFrame is its kind, four bytes of length, four of a number, and then bytes of its kind.
func testFrame(kind byte, number uint32, length int) []byte {
	f := append(make([]byte, 0, 9+length), kind)
	f = binary.BigEndian.AppendUint32(f, uint32(length))
	f = binary.BigEndian.AppendUint32(f, number)
	return append(f, bytes.Repeat([]byte{kind}, length)...)
}

// readTestFrames reads whole frames until the end, at the pace of the random numbers. It returns the last number of each
// kind.
func readTestFrames(conn net.Conn, r *rand.Rand) (last map[byte]uint32, err error) {
	last = map[byte]uint32{}
	from := io.Reader(conn)
	var head [9]byte
	for {
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return last, err
		}
		kind, number := head[0], binary.BigEndian.Uint32(head[5:])
		if last['z'] > 0 {
			return last, fmt.Errorf("%q came after a closing frame", kind)
		}
		if number <= last[kind] || kind == 'q' && number != last[kind]+1 {
			return last, fmt.Errorf("%c%d came after %d", kind, number, last[kind])
		}
		last[kind] = number
		for left := int(binary.BigEndian.Uint32(head[1:])); left > 0; {
			b := make([]byte, min(left, 1+r.IntN(20_000)))
			if _, err := io.ReadFull(from, b); err != nil {
				return last, err
			}
			if bytes.Count(b, head[:1]) != len(b) {
				return last, fmt.Errorf("something is within %c%d", kind, number)
			}
			if left -= len(b); r.IntN(20) == 0 {
				time.Sleep(time.Duration(r.IntN(300)) * time.Microsecond) // lasts
			}
		}
	}
}

// TestTryWriteRandom: frames of the queue come whole and in order, with control frames only between them, and nothing
// after the closing frame, whatever the client takes at once.
func TestTryWriteRandom(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			near, far := connectedLocally(t)
			_ = near.SetWriteBuffer(4 << 10)
			c := over(near)
			closing := testFrame('z', 1, 20)
			tries, left := 0, 0 // guarded by the queue's turn
			c.Queue = crosscast.NewBatchQueue(c.write, crosscast.QueueOptions{
				Limit: 64 << 20, CloseGrace: 10 * time.Second,
				TryWrite: func(frames [][]byte) (int, error) {
					n, err := c.tryWrite(frames)
					if tries++; c.outlet.part > 0 {
						left++
					}
					return n, err
				},
				OnClose: func(crosscast.Reason) {
					_ = c.outlet.sendClose(closing)
					_ = c.outlet.sendClose(closing) // does nothing
					c.sendControl(ping, testFrame('p', 1<<30, 5))
					_ = near.CloseWrite()
				},
			})
			const frames = 600
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := range uint32(frames) {
					length := r.IntN(300)
					if i%50 == 0 {
						length = r.IntN(100_000)
					}
					if err := c.SendFrame(testFrame('q', i+1, length)); err != nil {
						t.Error(err)
					}
					wait := r.IntN(8) == 0
					for wait && c.Stats().WrittenFrames <= uint64(i) { // the next one is tried
						time.Sleep(time.Duration(r.IntN(500)) * time.Microsecond) // poll
					}
				}
			})
			for kind, which := range map[byte]func(*controls) *[]byte{'p': ping, 'o': pong} {
				wg.Go(func() {
					for i := range uint32(200) {
						c.sendControl(which, testFrame(kind, i+1, 50))
						time.Sleep(100 * time.Microsecond) // lasts
					}
				})
			}
			go func() {
				wg.Wait()
				c.Close(crosscast.ReasonServer)
			}()
			last, err := readTestFrames(far, rand.New(rand.NewPCG(seed, 2)))
			if err != io.EOF || last['q'] != frames || last['z'] != 1 {
				t.Errorf("%v; the last frames are %v", err, last)
			}
			<-c.Done()
			if s := c.Stats(); s.WrittenFrames != frames || s.Dropped != 0 || s.QueuedFrames != 0 {
				t.Errorf("stats %+v", s)
			}
			if tries < 20 || left == 0 {
				t.Errorf("%d tries, %d left a part of a frame", tries, left)
			}
		})
	}
}
