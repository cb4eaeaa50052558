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

// Waiters is how many entries of waiting calls the topics of a hold.
func Waiters(a *Adapter) (n int) {
	a.subs.mu.Lock()
	defer a.subs.mu.Unlock()
	for _, t := range a.subs.topics {
		n += len(t.waiters)
	}
	return n
}
