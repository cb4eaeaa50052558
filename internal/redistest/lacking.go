package redistest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Lacking starts a proxy before a server that lacks some commands, as some proxies and providers do. It answers each of
// them with reply, in which %s is the command's name. With an empty reply it closes the connection. It returns the
// proxy's address. It ends with the test.
func Lacking(tb testing.TB, server, reply string, commands ...string) (addr string) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("redistest: %v", err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	serve := func(client net.Conn) {
		defer client.Close()
		far, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		defer far.Close()
		go func() {
			_, _ = io.Copy(client, far)
			_ = client.Close()
		}()
		for r := bufio.NewReader(client); ; {
			args, err := ReadCommand(r)
			switch {
			case err != nil:
			case !slices.Contains(commands, strings.ToLower(args[0])):
				_, err = io.WriteString(far, encode(args))
			case reply == "":
				return
			default:
				_, err = fmt.Fprintf(client, "-"+reply+"\r\n", args[0])
			}
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return ln.Addr().String()
}

func encode(args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

// ReadCommand reads a command as clients send it. Without an error it has at least one argument, which is its name.
func ReadCommand(r *bufio.Reader) (args []string, err error) {
	number := func() (n int) {
		line, e := r.ReadString('\n')
		if err = errors.Join(err, e); err != nil {
			return 0
		}
		n, e = strconv.Atoi(strings.TrimSpace(line[1:]))
		err = errors.Join(err, e)
		return n
	}
	for range number() {
		text := make([]byte, number()+2)
		_, e := io.ReadFull(r, text)
		err = errors.Join(err, e)
		args = append(args, string(text[:len(text)-2]))
	}
	if err == nil && len(args) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return args, err
}
