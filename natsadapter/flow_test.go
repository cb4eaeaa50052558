package natsadapter

import (
	"testing"
	"testing/synctest"

	"github.com/nats-io/nats.go"
)

// TestFlow: nothing is read while too many messages, or too many bytes, wait, and reading goes on once they are taken. One
// message that is larger than all that may wait is read.
func TestFlow(t *testing.T) {
	for name, size := range map[string]int{"messages": 0, "bytes": 64 << 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, done := newFlow(), make(chan struct{})
				f.bytes.Add(maxBytes + 1) // of one message that is not complete
				f.wait(done)
				f.bytes.Store(0)
				read, reading := 0, make(chan struct{})
				go func() {
					defer close(reading)
					for range maxEvents {
						f.wait(done)
						select {
						case <-done:
							return
						default:
						}
						f.bytes.Add(int64(size))
						f.events <- &nats.Msg{Data: make([]byte, size)}
						read++
					}
				}()
				synctest.Wait()
				first := read
				if first > highWater+1 || first*size > maxBytes+size {
					t.Errorf("%d messages of %d bytes were read, and none was taken", first, size)
				}
				for range first {
					f.took(<-f.events)
				}
				synctest.Wait()
				if read < first+first/2 {
					t.Errorf("%d messages were read, all of the first %d were taken", read, first)
				}
				close(done)
				<-reading
			})
		})
	}
}
