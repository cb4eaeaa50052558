package wire

import "github.com/crosscast/crosscast"

// ParseIngress is what reads a message to the ingress; reason names the counter when there is an error.
func ParseIngress(text []byte) (in *crosscast.Instruction, reason string, err error) {
	in, why, err := parseIngress(text)
	if err != nil {
		reason = dropNames[why]
	}
	return in, reason, err
}

// InstructionBound is what an instruction may take in a frame.
func InstructionBound(in *crosscast.Instruction) int { return instructionBound(in) }
