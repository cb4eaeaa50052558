package socketioadapter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/kind"
	"github.com/crosscast/crosscast/socketioadapter"
)

// message128 is the payload of the benchmarks: about 128 bytes of JSON.
const message128 = `{"id":12345,"from":"alice","text":"the quick brown fox jumps over the lazy dog, again and again",` +
	`"tags":["a","b"],"at":1699999999}`

type nothing struct{}

func (nothing) Handle(*crosscast.Instruction) {}
func (nothing) Gap(crosscast.Gap)             {}
func (nothing) Loss(crosscast.Loss)           {}
func (nothing) Awaits(string) bool            { return true }
func (nothing) Link(crosscast.LinkStatus)     {}

func (nothing) Outage(time.Time, crosscast.GapReason) {}

func emission(p crosscast.Payload) *crosscast.Instruction {
	return &crosscast.Instruction{
		Kind: kind.Emit, Namespace: "/", Event: "message", Payload: p,
		Target: crosscast.Target{Rooms: []string{"room1"}},
	}
}

var benchPayloads = map[string]crosscast.Payload{
	"JSON":   {Encoding: crosscast.EncodingJSON, Data: []byte(message128)},
	"binary": {Encoding: crosscast.EncodingBinary, Data: make([]byte, 128)},
}

func BenchmarkWrite(b *testing.B) {
	for _, mode := range []string{"classic", "dynamic"} {
		for name, p := range benchPayloads {
			b.Run(fmt.Sprintf("%s/%s", mode, name), func(b *testing.B) {
				d := socketioadapter.NewDialect(modes[mode])
				d.Begin(starting(crosscast.NodeInfo{ID: "aaaaaaaa"}, nothing{}))
				in := emission(p)
				send := func(string, crosscast.Address, []byte) {}
				b.ReportAllocs()
				for b.Loop() {
					if err := d.Write(in, send); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for _, mode := range []string{"classic", "dynamic"} {
		for name, p := range benchPayloads {
			b.Run(fmt.Sprintf("%s/%s", mode, name), func(b *testing.B) {
				m := newSide(b, "aaaaaaaa", modes[mode]).write(emission(p))[0]
				d := socketioadapter.NewDialect(modes[mode])
				d.Begin(starting(crosscast.NodeInfo{ID: "bbbbbbbb"}, nothing{}))
				data := []byte(m.data)
				b.ReportAllocs()
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					if _, err := d.Read(m.channel, data); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
