//go:build linux && !386

package wsconn

import "testing"

// TestSendNowIsShort: a stop of all goroutines waits for the call.
func TestSendNowIsShort(t *testing.T) {
	near, _ := connected(t)
	var n int
	var err error
	if failed := rawOf(near).Control(func(fd uintptr) { n, err = sendNow(fd, make([]byte, 16*maxBatch)) }); failed != nil {
		t.Fatal(failed)
	}
	if n < 1 || n > maxBatch || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}
