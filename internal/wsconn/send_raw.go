//go:build linux && !386

package wsconn

import (
	"syscall"
	"unsafe"
)

// sendNow writes what the socket takes of b, which is not empty, without waiting: at most maxBatch.
//
// The scheduler of Go is not told of the system call, because it does not wait. If it were told, and the kernel put the
// thread aside in the middle of the call, another thread might run goroutines instead, and this one would have to wait until
// there is room for it again. Then the last of many clients waits, too. A stop of all goroutines, such as that of the garbage
// collector, waits for the call, so it is short: a client that reads fast would take many megabytes in one.
func sendNow(fd uintptr, b []byte) (int, error) {
	b = b[:min(len(b), maxBatch)]
	n, _, err := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}
