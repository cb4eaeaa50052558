package args_test

import (
	"testing"

	"github.com/crosscast/crosscast/internal/args"
)

// benchPayload is what a broadcast usually carries: about 128 bytes.
var benchPayload = text(`{"id":12345,"user":"alice","text":"hello, this is a message of a usual length",` +
	`"at":1732500000000,"tags":["a","b"],"ok":true,"x":1.5}`)

func BenchmarkAppendMsgpack(b *testing.B) {
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst, _ = args.AppendMsgpack(dst[:0], "roomMessage", benchPayload)
	}
}

func BenchmarkParseMsgpack(b *testing.B) {
	array, _ := args.AppendMsgpack(nil, "roomMessage", benchPayload)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _, _ = args.ParseMsgpack(array)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	_, p, _, _ := args.ParseMsgpack([]byte("\x94\xa4test\x01\xa5hello\xc4\x04abcd"))
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst, _ = args.AppendJSON(dst[:0], "roomMessage", p, args.BufferJSON)
	}
}
