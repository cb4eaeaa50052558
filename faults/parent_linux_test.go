package faults_test

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel end the process when the test binary dies, even a process that is paused.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
