package crosscast

import "math/bits"

// A watcher and a watched node compare their versions of the rooms: those that the watcher has, and those that the node
// has sent. Each keeps sums over its rooms, by bucket, and a sum changes with each version. So a comparison costs the
// same for one room as for very many.

// buckets is the number of parts into which the hashes of names divide the rooms: one for each bit of Presence.Buckets.
const buckets = 64

// A roomHash stands for a room in sums, and is the same on all nodes. Its top bits name the room's bucket.
type roomHash uint64

func hashOf(at Address) roomHash {
	h := uint64(14695981039346656037) // FNV-1a
	for _, s := range [...]string{at.Namespace, "\x00", at.Name} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
	}
	return roomHash(mix(h))
}

// mix makes each bit of the result depend on each bit of v (splitmix64).
func mix(v uint64) uint64 {
	v = (v ^ v>>30) * 0xbf58476d1ce4e5b9
	v = (v ^ v>>27) * 0x94d049bb133111eb
	return v ^ v>>31
}

func (h roomHash) bucket() int { return int(h >> 58) }

// at is the room's part of its bucket's sum. A room without a known version adds nothing.
func (h roomHash) at(version uint64) uint64 {
	if version == 0 {
		return 0
	}
	return mix(uint64(h) + version*0x9e3779b97f4a7c15)
}

// A digest is the sums of all buckets.
type digest [buckets]uint64

// move records that a room's known or sent version has changed.
func (d *digest) move(h roomHash, from, to uint64) { d[h.bucket()] += h.at(to) - h.at(from) }

// sums returns the sums of a set of buckets; for no set, the one sum of all.
func (d *digest) sums(set uint64) []uint64 {
	if set == 0 {
		all := uint64(0)
		for _, sum := range d {
			all += sum
		}
		return []uint64{all}
	}
	some := make([]uint64, 0, bits.OnesCount64(set))
	for i, sum := range d {
		if set&(1<<i) != 0 {
			some = append(some, sum)
		}
	}
	return some
}

// differing returns the buckets of a set whose sums differ from the given ones. For no set it compares the sum of all,
// and returns all buckets if that differs. If sums has the wrong length, it returns none.
func (d *digest) differing(set uint64, sums []uint64) (differ uint64) {
	own := d.sums(set)
	if len(own) != len(sums) {
		return 0
	}
	if set == 0 {
		if own[0] != sums[0] {
			return ^uint64(0)
		}
		return 0
	}
	for k := range own {
		i := bits.TrailingZeros64(set)
		set &^= 1 << i
		if own[k] != sums[k] {
			differ |= 1 << i
		}
	}
	return differ
}
