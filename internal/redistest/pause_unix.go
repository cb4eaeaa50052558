//go:build unix

package redistest

import "syscall"

// Pause stops the process with SIGSTOP: connections stand, and nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume lets a paused server go on.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }
