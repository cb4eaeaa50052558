package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
)

// The limits of the way over Redis: plain connections, without any library.

const packed = 32 // messages in a PUBLISH of the limit that packs

// receivePlain reads messages that are k to a PUBLISH. Only the first of them is looked at.
func receivePlain(k int) func(p *proc, got func(payload []byte, k int)) error {
	return func(p *proc, got func(payload []byte, k int)) error {
		conn, err := net.Dial("tcp", p.Redis)
		if err != nil {
			return err
		}
		channels := p.roomNames()
		if _, err := fmt.Fprintf(conn, "SUBSCRIBE %s\r\n", strings.Join(channels, " ")); err != nil {
			return err
		}
		payload := k * len(p.newPayload())
		// All channels have names of the same length.
		head := fmt.Appendf(nil, "*3\r\n$7\r\nmessage\r\n$%d\r\n", len(channels[0]))
		behind := fmt.Appendf(nil, "\r\n$%d\r\n", payload)
		size := len(head) + len(channels[0]) + len(behind) + payload + 2
		br := bufio.NewReaderSize(conn, max(256<<10, size))
		for range 6 * len(channels) { // lines of confirmations
			if _, err := br.ReadSlice('\n'); err != nil {
				return err
			}
		}
		go func() {
			for {
				b, err := br.Peek(size)
				if err != nil || !bytes.HasPrefix(b, head) {
					p.fail(fmt.Errorf("receive: %.40q, %v", b, err))
					return
				}
				got(b[size-2-payload:], k)
				_, _ = br.Discard(size)
			}
		}()
		return nil
	}
}

// publishPlain pipelines messages, k to a PUBLISH, and ignores the replies.
func publishPlain(k int) func(p *proc) (sender, error) {
	return func(p *proc) (sender, error) {
		conn, err := net.Dial("tcp", p.Redis)
		if err != nil {
			return sender{}, err
		}
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		bw := bufio.NewWriterSize(conn, 64<<10)
		payload := p.newPayload()
		rest := bytes.Repeat(payload, k-1)
		var heads [][]byte
		for _, channel := range p.roomNames() {
			heads = append(heads, fmt.Appendf(nil, "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%d\r\n", len(channel), channel, k*len(payload)))
		}
		return sender{
			batch: max(min(256, p.Window/2), k),
			send: func(first, n int) error {
				for i := first; i < first+n; i += k {
					p.stamp(payload, i)
					_, _ = bw.Write(heads[i%len(heads)]) // an error sticks, and Flush returns it
					_, _ = bw.Write(payload)
					_, _ = bw.Write(rest)
					_, _ = bw.WriteString("\r\n")
				}
				return bw.Flush()
			},
		}, nil
	}
}
