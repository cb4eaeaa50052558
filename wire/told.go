package wire

import (
	"slices"

	"github.com/crosscast/crosscast"
)

// told has the numbers up to which gaps of one origin were reported, on a [Scattered] bus. There, an older frame might come
// on another topic, or another connection, when such a gap has been reported already. It is late then, as it would be on a
// bus with an order: the application has repaired what it missed, and old news would undo that.
type told struct {
	all   uint64      // on every topic
	names []toldNames // at most maxTold; beyond that the numbers count for all topics
}

// toldNames are the rooms and users of one loss.
type toldNames struct {
	to    uint64
	names []crosscast.Address
}

const maxTold = 16

// add notes a gap of everything up to a number.
func (t *told) add(to uint64) { t.all = max(t.all, to) }

// addLoss notes the gap of a loss.
func (t *told) addLoss(r *lossRange) {
	isShared := func(name crosscast.Address) bool { return name.Space == spaceShared }
	if r.Names == nil || slices.ContainsFunc(r.Names, isShared) {
		t.add(r.To)
		return
	}
	if len(t.names) == maxTold {
		t.add(t.names[0].to)
		t.names = slices.Delete(t.names, 0, 1)
	}
	t.names = append(t.names, toldNames{r.To, slices.Clone(r.Names)})
}

// reaches reports whether a frame for a name with this number comes after a gap of what is as new.
func (t *told) reaches(number uint64, name crosscast.Address) bool {
	return number <= t.all || slices.ContainsFunc(t.names, func(n toldNames) bool {
		return number <= n.to && slices.Contains(n.names, name)
	})
}

// forget forgets numbers from a number on: they were not the origin's.
func (t *told) forget(number uint64) {
	t.all = min(t.all, number-1)
	t.names = nil
}
