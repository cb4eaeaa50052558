//go:build !unix

package wsconn

import (
	"net"
	"syscall"
)

// rawOf returns nil: sockets of this system might block.
func rawOf(net.Conn) syscall.RawConn { return nil }

func (*joint) tryWrite(uintptr) {}
