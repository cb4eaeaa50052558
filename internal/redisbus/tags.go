package redisbus

import (
	"strings"
	"sync"
)

// A channel of a sharded cluster ends with a hash tag, which alone decides its slot. There are 256 tags, with slots that
// lie evenly over all 16,384: so masters whose slots are evenly divided have evenly many tags. Neighbouring tags make a
// group, which is a part of the adapter (wire.NewParts). Most groups are on one master, some on two.
//
// All nodes must agree on everything in this file.
const (
	allTags   = 256
	allGroups = 16
	groupTags = allTags / allGroups
	allSlots  = 16384
	tagBytes  = len("{abc}")
)

// tags are the hash tags with their braces, in the order of their slots. The slot of the i-th is as near as any of three
// letters and digits gets to the middle of the i-th of 256 equal ranges.
var tags = sync.OnceValue(func() (all [allTags]string) {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	var least [allTags]int // the distance from the middle, plus 1; 0: no tag yet
	for _, a := range letters {
		for _, b := range letters {
			for _, c := range letters {
				tag := string([]rune{a, b, c})
				slot := slotOf(tag)
				i := slot * allTags / allSlots
				distance := slot - (2*i+1)*allSlots/allTags/2
				if distance = max(distance, -distance) + 1; least[i] == 0 || distance < least[i] {
					least[i], all[i] = distance, "{"+tag+"}"
				}
			}
		}
	}
	return all
})

// tagNumbers are the indexes of tags.
var tagNumbers = sync.OnceValue(func() map[string]int {
	numbers := make(map[string]int, allTags)
	for i, tag := range tags() {
		numbers[tag] = i
	}
	return numbers
})

// slotOf returns the slot of a hash tag without its braces: CRC16 (XMODEM) modulo their number.
func slotOf(tag string) int {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % allSlots
}

// tagOf returns the index of the tag of a topic in a group. The rest is the topic without the prefix. Everyone's topic and
// those of single nodes share a tag in the middle of the group, because they need an order between them.
func tagOf(group int, rest string) int {
	first := group * groupTags
	named := false
	for _, kind := range [...]string{":r:", ":u:", ":hr:", ":hu:"} {
		named = named || strings.HasPrefix(rest, kind)
	}
	if !named {
		return first + groupTags/2
	}
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(rest) {
		h = (h ^ uint64(rest[i])) * 1099511628211
	}
	h ^= h >> 32
	return first + int((h^h>>16)%groupTags)
}
