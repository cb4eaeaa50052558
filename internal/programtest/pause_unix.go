//go:build unix

package programtest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// Pause stops a process with SIGSTOP: its connections stand, and it does nothing. Pause returns when the process has
// stopped, because kill does not wait for that. Without a /proc it returns at once.
func Pause(tb testing.TB, pid int) {
	tb.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		tb.Errorf("pausing process %d: %v", pid, err)
		return
	}
	for begin := time.Now(); time.Since(begin) < Patience; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") T ")) {
			return
		}
	}
	tb.Errorf("process %d does not stop", pid)
}
