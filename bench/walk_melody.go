package main

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/olahol/melody"
)

// walkMelody has clients of melody whose connections write to nowhere.
func walkMelody(p *proc) (func(span time.Duration) (values, error), error) {
	m := melody.New()
	m.Config.PingPeriod = time.Hour
	m.Config.MessageBufferSize = 16
	var written, open atomic.Int64
	m.HandleSentMessage(func(*melody.Session, []byte) { written.Add(1) })
	m.HandleConnect(func(*melody.Session) { open.Add(1) })
	for _, c := range shuffled(p.N, func() *silent { return &silent{} }) {
		r, err := http.NewRequest(http.MethodGet, "/", nil)
		if err != nil {
			return nil, err
		}
		r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="}}
		go func() {
			if err := m.HandleRequest(c, r); err != nil {
				p.fail(err)
			}
		}()
	}
	for open.Load() < int64(p.N) {
		time.Sleep(time.Millisecond)
	}
	payload := p.newPayload()
	return allWritten(p, &written, func() error { return m.Broadcast(payload) }), nil
}

// silent is a response whose connection sends nothing, and takes everything.
type silent struct{ net.Conn }

func (*silent) Header() http.Header { return http.Header{} }
func (*silent) WriteHeader(int)     {}

func (c *silent) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return c, bufio.NewReadWriter(bufio.NewReader(nil), bufio.NewWriter(nil)), nil
}

func (*silent) Read([]byte) (int, error)         { select {} }
func (*silent) Write(b []byte) (int, error)      { return len(b), nil }
func (*silent) Close() error                     { return nil }
func (*silent) SetDeadline(time.Time) error      { return nil }
func (*silent) SetReadDeadline(time.Time) error  { return nil }
func (*silent) SetWriteDeadline(time.Time) error { return nil }
