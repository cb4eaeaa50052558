package wsconn

import (
	"bufio"
	"bytes"
	"compress/flate"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/coder/websocket"
)

// readFrames returns what an input reads: messages, control frames in brackets, and the error.
func readFrames(in *input) (read []string) {
	control := recordedControl{&read}
	for {
		typ, m, err := in.next(control)
		if err != nil {
			var unacceptable Unacceptable
			if errors.As(err, &unacceptable) {
				return append(read, fmt.Sprintf("%d %s", unacceptable.Code, unacceptable.Text))
			}
			return append(read, err.Error())
		}
		if m != nil {
			kind := map[websocket.MessageType]string{opText: "", opBinary: "binary "}[typ]
			read = append(read, kind+m.String())
			release(m)
		}
	}
}

type recordedControl struct{ read *[]string }

func (r recordedControl) handleControl(op byte, payload []byte) {
	*r.read = append(*r.read, fmt.Sprintf("[%d %s]", op, payload))
}

// frame is a client's frame, masked with the key 1, 2, 3, 4.
func frame(first byte, payload string) string {
	b := appendHeader(nil, first, len(payload))
	b[1] |= 0x80
	b = append(b, 1, 2, 3, 4)
	for i := range len(payload) {
		b = append(b, payload[i]^byte(i%4+1))
	}
	return string(b)
}

// TestInput has the cases of RFC 6455 that a client may send, and those that it may not, in pieces of every size.
func TestInput(t *testing.T) {
	large := strings.Repeat("0123456789", 7000) // a length of 64 bits
	zip := func(s string) string { return string(compressed1(s)) }
	const end = "EOF"
	for _, c := range []struct {
		name string
		sent string
		want []string
	}{
		{"nothing", "", []string{end}},
		{"messages", frame(0x81, "a") + frame(0x82, "b") + frame(0x81, ""), []string{"a", "binary b", "", end}},
		{"sizes", frame(0x81, large[:125]) + frame(0x81, large[:126]) + frame(0x81, large[:65535]) + frame(0x81, large),
			[]string{large[:125], large[:126], large[:65535], large, end}},
		{"a length in more bytes than needed", "\x81\xfe\x00\x01\x00\x00\x00\x00a\x82\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00b",
			[]string{"a", "binary b", end}},
		{"fragments", frame(0x01, "a") + frame(0x00, "") + frame(0x00, "bc") + frame(0x80, "d") + frame(0x82, "e"), []string{"abcd", "binary e", end}},
		{"fragments that are empty", frame(0x02, "") + frame(0x00, "") + frame(0x80, ""), []string{"binary ", end}},
		{"controls", frame(0x89, "ping") + frame(0x8a, large[:125]) + frame(0x89, ""), []string{"[9 ping]", "[10 " + large[:125] + "]", "[9 ]", end}},
		{"controls within a message", frame(0x01, "a") + frame(0x89, "x") + frame(0x00, "b") + frame(0x8a, "") + frame(0x80, "c"), []string{"[9 x]", "[10 ]", "abc", end}},
		{"half a header", "\x81", []string{end}},
		{"half a message", frame(0x81, "abc")[:8], []string{end}},
		{"half a fragmented message", frame(0x01, "abc"), []string{end}},
		{"half a ping", frame(0x89, "abc")[:8], []string{end}},

		{"unmasked", "\x81\x01a", []string{"1002 unmasked frame"}},
		{"reserved bit 1", frame(0xc1, "a"), []string{"1002 reserved bits"}},
		{"reserved bit 2", frame(0xa1, "a"), []string{"1002 reserved bits"}},
		{"reserved bit 3", frame(0x91, "a"), []string{"1002 reserved bits"}},
		{"reserved bit of a ping", frame(0xc9, "a"), []string{"1002 reserved bits"}},
		{"opcode 3", frame(0x83, "a"), []string{"1002 unknown opcode"}},
		{"opcode 7", frame(0x87, "a"), []string{"1002 unknown opcode"}},
		{"opcode 11", frame(0x8b, "a"), []string{"1002 unknown opcode"}},
		{"opcode 15", frame(0x8f, "a"), []string{"1002 unknown opcode"}},
		{"a fragmented ping", frame(0x09, "a"), []string{"1002 fragmented control frame"}},
		{"a fragmented closing frame", frame(0x08, ""), []string{"1002 fragmented control frame"}},
		{"a large ping", frame(0x89, large[:126]), []string{"1002 large control frame"}},
		{"continuation of nothing", frame(0x80, "a"), []string{"1002 continuation of no message"}},
		{"continuation after the last", frame(0x81, "a") + frame(0x00, "b"), []string{"a", "1002 continuation of no message"}},
		{"a message within another", frame(0x01, "a") + frame(0x81, "b"), []string{"1002 message within a message"}},
		{"a length of 64 bits", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", []string{"1002 length above 63 bits"}},
		{"a length of 63 bits", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00", []string{"1009 message too large"}},
		{"too large", frame(0x82, large+"x"), []string{"1009 message too large"}},
		{"too large in fragments", frame(0x02, large) + frame(0x00, "") + frame(0x80, "x"), []string{"1009 message too large"}},

		{"a closing frame", frame(0x88, "\x03\xe8bye") + frame(0x81, "a"), []string{"the client has sent a closing frame"}},
		{"an empty closing frame", frame(0x88, ""), []string{"the client has sent a closing frame"}},
		{"a closing frame within a message", frame(0x01, "a") + frame(0x88, "\x0b\xb8"), []string{"the client has sent a closing frame"}},
		{"half a code", frame(0x88, "\x03"), []string{"1002 closing frame with half a code"}},
		{"a text that is not UTF-8", frame(0x88, "\x03\xe8\xff"), []string{"1002 closing frame with a text that is not UTF-8"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, from := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "halves": iotest.HalfReader,
				"error with the data": iotest.DataErrReader,
			} {
				got := readFrames(&input{from: from(strings.NewReader(c.sent)), limit: len(large)})
				if !slices.Equal(got, c.want) {
					t.Errorf("%s: read %.300q, want %.300q", name, got, c.want)
				}
			}
		})
	}
	for code, may := range map[int]bool{
		0: false, 999: false, 1000: true, 1003: true, 1004: false, 1005: false, 1006: false, 1007: true, 1011: true, 1014: true,
		1015: false, 1016: false, 2999: false, 3000: true, 4999: true, 5000: false, 65535: false,
	} {
		got := readFrames(&input{from: strings.NewReader(frame(0x88, string([]byte{byte(code >> 8), byte(code)})))})
		if want := "the client has sent a closing frame"; (got[0] == want) != may {
			t.Errorf("code %d: %q", code, got)
		}
	}
	random := make([]byte, len(large)) // becomes longer
	_, _ = rand.Read(random)
	for _, c := range []struct{ sent, want string }{
		{frame(0xc1, zip(large)), large},
		{frame(0xc2, zip(string(random))), "binary " + string(random)},
		{frame(0xc2, zip("")), "binary "},
		{frame(0x81, "plain"), "plain"},
		{frame(0x41, zip(large)[:9]) + frame(0x89, "") + frame(0x80, zip(large)[9:]), large},
		{frame(0x41, zip("a")) + frame(0xc0, ""), "1002 reserved bits"},
		{frame(0xc9, ""), "1002 reserved bits"},
		{frame(0xc1, zip(large+"x")), "1009 message too large"},
		{frame(0xc1, zip(strings.Repeat("x", 20<<20))), "1009 message too large"},
		{frame(0xc1, "\xff\xff\xff"), "1007 compressed badly"},
		{frame(0xc1, large+large), "1009 message too large"},
	} {
		before := allocated()
		got := readFrames(&input{from: strings.NewReader(c.sent), limit: len(large), inflates: true})
		if b := allocated() - before; b > 4<<20 {
			t.Errorf("a message of at most %d bytes took %d bytes of memory", len(large), b)
		}
		got = slices.DeleteFunc(got, func(s string) bool { return s == "[9 ]" || s == end })
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("compressed %.50q: read %.100q, want %.100q", c.sent, got, c.want)
		}
	}
}

// allocated returns how many bytes were ever allocated.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// compressed1 compresses a message.
func compressed1(s string) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = io.WriteString(w, s)
	_ = w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
}

// TestDiscard: after an error, the client's closing frame is still found.
func TestDiscard(t *testing.T) {
	for _, bad := range []string{
		"\x81\x01a", frame(0x83, strings.Repeat("x", 1000)), frame(0x82, strings.Repeat("\x88\x80", 50_000)), frame(0x09, "a"),
	} {
		rest := strings.NewReader(bad + frame(0x81, "later") + frame(0x88, "") + "more")
		in := &input{from: rest, limit: 100}
		if got := readFrames(in); len(got) != 1 || got[0] == "EOF" {
			t.Fatal(got)
		}
		if in.discard(); !in.ended {
			t.Errorf("%.20q: no closing frame was found", bad)
		}
	}
	in := &input{from: strings.NewReader("\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff")} // it ends
	if in.discard(); in.ended {
		t.Error("a closing frame was found")
	}
}

// TestInputMemory: a message takes memory for the bytes that have come, not for those that are announced.
func TestInputMemory(t *testing.T) {
	announced := "\x82\xff\x00\x00\x00\x00\x3f\x00\x00\x00\x00\x00\x00\x00" + strings.Repeat("x", 10_000)
	m := new(bytes.Buffer)
	in := &input{from: strings.NewReader(announced), limit: 1 << 30}
	h, err := in.header()
	if err != nil || h.size != 0x3f000000 {
		t.Fatal(h, err)
	}
	if err := in.payload(m, h, false); err != io.EOF || m.Len() != 10_000 || m.Cap() > 40_000 {
		t.Errorf("%v, %d bytes, memory for %d", err, m.Len(), m.Cap())
	}
}

// FuzzInput: an input reads the same messages and control frames as the library, whatever comes.
func FuzzInput(f *testing.F) {
	f.Add([]byte(frame(0x01, "a") + frame(0x89, "x") + frame(0x80, "b") + frame(0x88, "\x03\xe8")))
	f.Add([]byte("\x81\xfe\x00\x01\x00\x00\x00\x00a" + frame(0x8a, "") + frame(0x83, "c")))
	f.Fuzz(func(t *testing.T, sent []byte) {
		got := readFrames(&input{from: iotest.HalfReader(bytes.NewReader(sent)), limit: fuzzLimit})
		got = got[:len(got)-1] // the error
		if want := libraryReads(t, sent); !slices.Equal(got, want) {
			t.Fatalf("read %q, the library %q", got, want)
		}
	})
}

const fuzzLimit = 1 << 10

// libraryReads is readFrames of the library, without the error.
func libraryReads(t *testing.T, sent []byte) (read []string) {
	control := recordedControl{&read}
	conn := &givenConn{recordingConn{}, bytes.NewReader(sent)}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
	}
	c, err := websocket.Accept(hijackable{httptest.NewRecorder(), conn}, r, &websocket.AcceptOptions{
		OnPingReceived: func(_ context.Context, p []byte) bool { control.handleControl(opPing, p); return false },
		OnPongReceived: func(_ context.Context, p []byte) { control.handleControl(opPong, p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(fuzzLimit)
	for {
		typ, b, err := c.Read(t.Context())
		if err != nil {
			return read
		}
		read = append(read, map[websocket.MessageType]string{opText: "", opBinary: "binary "}[typ]+string(b))
	}
}

// A givenConn reads what it is given. Then it fails, because at an end the library takes a part of a message for a whole.
type givenConn struct {
	recordingConn
	given io.Reader
}

func (c *givenConn) Read(p []byte) (int, error) {
	n, err := c.given.Read(p)
	if err != nil {
		err = errors.New("the connection is broken")
	}
	return n, err
}

func (c *givenConn) Close() error { return nil }

type hijackable struct {
	*httptest.ResponseRecorder
	conn net.Conn
}

func (h hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}
