package wire

import (
	"github.com/crosscast/crosscast"
	"github.com/crosscast/crosscast/internal/mpack"
)

// Frames, as tests write and read them.

type (
	FrameHeader = frameHeader
	FrameReader = frameReader
	LossRange   = lossRange
)

const (
	HeaderLen    = headerLen
	MaxItems     = maxItems
	MaxLosses    = maxLosses
	MaxLossNames = maxLossNames
)

var (
	AppendFrameHeader = appendFrameHeader
	PatchNumbers      = patchNumbers
	ErrVersion        = errVersion
)

// AppendItem appends an instruction to a frame on the topic of a name.
func AppendItem(dst []byte, inst *crosscast.Instruction, topic crosscast.Address, copyNumber uint64) []byte {
	dst, err := appendInstruction(appendCopyNumber(dst, copyNumber), inst, &topic)
	if err != nil {
		panic(err)
	}
	return dst
}

func (r *frameReader) Reset(frame []byte, topic *crosscast.Address) (*FrameHeader, error) {
	return r.reset(frame, topic)
}

// Next is next, in parts.
func (r *frameReader) Next() (inst *crosscast.Instruction, copyNumber uint64, quiet []byte, err error) {
	it, err := r.next()
	return it.inst, it.copyNumber, it.quiet, err
}

// NextRouting is Next of an item that might be a routing.
func (r *frameReader) NextRouting() (inst *crosscast.Instruction, copyNumber uint64, quiet []byte, routing string, err error) {
	it, err := r.next()
	return it.inst, it.copyNumber, it.quiet, string(it.routing), err
}

func AppendRouting(dst []byte, routing string) []byte { return mpack.AppendStr(dst, routing) }

// AppendQuiet appends what is told of quiet topics.
func AppendQuiet(dst, quiet []byte) []byte { return mpack.AppendBin(dst, quiet) }

func AppendInstruction(dst []byte, inst *crosscast.Instruction, topic crosscast.Address) ([]byte, error) {
	return appendInstruction(dst, inst, &topic)
}
