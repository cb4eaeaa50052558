package crosscast

// Used returns the number of bytes that wait above the limits.
func (b *QueueBudget) Used() int { return int(b.used.Load()) }
