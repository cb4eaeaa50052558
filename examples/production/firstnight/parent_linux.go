package main

import (
	"os/exec"
	"syscall"
)

// endWithParent makes the kernel end a child when this program dies without ending it.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
