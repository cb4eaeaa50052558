//go:build unix

package redistest

import (
	"syscall"

	"github.com/crosscast/crosscast/internal/programtest"
)

// Pause stops the process: connections stand, and nothing answers.
func (s *Server) Pause() { programtest.Pause(s.tb, s.proc.cmd.Process.Pid) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }
