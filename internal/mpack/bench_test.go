package mpack_test

import (
	"testing"

	"github.com/crosscast/crosscast/internal/mpack"
)

// benchText is what a broadcast usually carries: about 128 bytes.
var benchText = []byte(`{"id":12345,"user":"alice","text":"hello, this is a message of a usual length",` +
	`"at":1732500000000,"tags":["a","b"],"ok":true,"x":1.5}`)

func BenchmarkAppendFromJSON(b *testing.B) {
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst, _ = mpack.AppendFromJSON(dst[:0], benchText)
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	value, _ := mpack.AppendFromJSON(nil, benchText)
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst, _, _ = mpack.AppendJSON(dst[:0], value, nil)
	}
}

func BenchmarkScan(b *testing.B) {
	value, _ := mpack.AppendFromJSON(nil, benchText)
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = mpack.Scan(value)
	}
}
