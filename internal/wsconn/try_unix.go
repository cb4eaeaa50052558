//go:build unix && !aix

package wsconn

import (
	"io"
	"net"
	"syscall"
)

// rawOf returns conn for writes that do not wait; nil: conn might have a Write of its own, which they would go around.
func rawOf(conn net.Conn) syscall.RawConn {
	switch conn := conn.(type) {
	case *net.TCPConn:
		return rawConn(conn)
	case *net.UnixConn:
		return rawConn(conn)
	}
	return nil
}

func rawConn(conn syscall.Conn) syscall.RawConn {
	raw, err := conn.SyscallConn()
	if err != nil { // the connection is closed: Write says so
		return nil
	}
	return raw
}

// tryWrite writes what the socket takes of rest. Package net makes sockets that do not block, but a socket might not be
// one of these any more, for example after File and Fd.
func (j *joint) tryWrite(fd uintptr) {
	for len(j.rest) > 0 {
		n, err := sendNow(fd, j.rest)
		switch {
		case n > 0:
			j.rest = j.rest[n:]
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return
		case err == nil:
			j.err = io.ErrUnexpectedEOF
			return
		default:
			j.err = err
			return
		}
	}
}
