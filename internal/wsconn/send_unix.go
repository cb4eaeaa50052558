//go:build unix && !aix && (!linux || 386)

package wsconn

import "syscall"

// sendNow writes what the socket takes of b, which is not empty, without waiting.
func sendNow(fd uintptr, b []byte) (int, error) {
	return syscall.SendmsgN(int(fd), b, nil, nil, syscall.MSG_DONTWAIT)
}
