package sse

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/crosscast/crosscast/internal/wsconn"
)

// parse reads events as a browser does (the HTML standard, section 9.2.6), and returns their data.
func parse(stream string) (data []string) {
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	var lines []string
	for line := range strings.SplitSeq(stream, "\n") {
		field, value, _ := strings.Cut(line, ":")
		switch {
		case line == "" && lines != nil:
			data, lines = append(data, strings.Join(lines, "\n")), nil
		case field == "data":
			lines = append(lines, strings.TrimPrefix(value, " "))
		}
	}
	return data
}

// FuzzEvents: whatever messages are, each becomes one event, and line breaks in it stay line breaks.
func FuzzEvents(f *testing.F) {
	f.Add("{}", "a\r\n\r\nevent: close\ndata: {}\n\n")
	f.Add("\r", "\n")
	f.Add(strings.Repeat("x", 126), strings.Repeat("\r\n", 100))
	f.Add("data: x", ": ")
	f.Fuzz(func(t *testing.T, a, b string) {
		var format wsconn.Format
		frames := format.Append(format.Append(nil, opText, []byte(a)), opText, []byte(b))
		out, answers, err := new(stream).translate(nil, frames)
		if err != nil || answers != nil {
			t.Fatal(err, answers)
		}
		breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n")
		if got := parse(string(out)); len(got) != 2 || got[0] != breaks.Replace(a) || got[1] != breaks.Replace(b) {
			t.Errorf("%q and %q became %q", a, b, got)
		}
	})
}

// FuzzPosts: a body becomes one frame for each line with something in it, and never more than four times its size.
func FuzzPosts(f *testing.F) {
	f.Add([]byte("{}\n{}"))
	f.Add([]byte("\r\n \n\x00\n" + strings.Repeat("x", 200)))
	f.Add(bytes.Repeat([]byte("x\n"), 100))
	f.Add([]byte("=AP8=\n=\n=A\n=="))
	f.Fuzz(func(t *testing.T, body []byte) {
		frames := framesOf(body)
		if len(frames) > 4*len(body)+6 {
			t.Errorf("%d bytes for a body of %d", len(frames), len(body))
		}
		for line := range bytes.Lines(body) {
			want, op := bytes.TrimSpace(line), byte(opText)
			if bytes.HasPrefix(want, []byte("=")) {
				if b, err := base64.StdEncoding.DecodeString(string(want[1:])); err == nil {
					want, op = b, opBinary
				}
			}
			if len(want) == 0 {
				continue
			}
			header, size := 6, int(frames[1]&^masked)
			switch size {
			case 126:
				header, size = 8, int(binary.BigEndian.Uint16(frames[2:]))
			case 127:
				header, size = 14, int(binary.BigEndian.Uint64(frames[2:]))
			}
			if frames[0] != final|op || frames[1]&masked == 0 || !bytes.Equal(frames[header:header+size], want) {
				t.Fatalf("the frame of %q is %q", want, frames)
			}
			frames = frames[header+size:]
		}
		if len(frames) > 0 {
			t.Errorf("left over: %q", frames)
		}
	})
}

// TestFrames: what is not a frame of a whole message is an error.
func TestFrames(t *testing.T) {
	for _, frame := range []string{
		"\x81", "\x81\x02x", "\x01\x01x", "\xc1\x01x", "\x81\x81\x00\x00\x00\x00x", "\x83\x01x", "\x80\x01x", "\x81\x7e\x00",
		"\x81\x7f\x00\x00\x00\x00\x00\x00\x00", "\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xffx",
	} {
		if _, _, err := new(stream).translate(nil, []byte(frame)); err == nil {
			t.Errorf("%q was taken", frame)
		}
	}
}
