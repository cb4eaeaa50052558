package redistest

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel end the server when the test binary dies without running its cleanups, as after a
// panic or a time limit.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
