package crosscast

// AdapterStats is a snapshot of an adapter's counters; they only rise, except where noted.
type AdapterStats struct {
	InstructionsIn, InstructionsOut uint64
	BytesIn, BytesOut               uint64
	FramesIn, FramesOut             uint64
	Dropped                         map[string]uint64 // what was not passed on, by reason
	QueueBytes                      int               // waiting to be published now
	Connected                       bool              // whether the link to the bus stands now
}
