//go:build !unix || aix

package wsconn

import (
	"net"
	"syscall"
)

// rawOf returns nil: a write to a socket of this system might block.
func rawOf(net.Conn) syscall.RawConn { return nil }

func (*joint) tryWrite(uintptr) {}
