// Package limit has the errors of arguments that break a limit, and the limits.
package limit

import (
	"errors"
	"fmt"
)

const (
	Name     = 255       // the largest length of a name (room, user, event, namespace), in bytes
	Names    = 1024      // the largest number of names in an instruction's target, over all its lists, and of its rooms
	Meta     = 8         // the largest number of an instruction's pairs of meta data
	Presence = 1024      // the largest size of what a socket shows of itself, in bytes
	Answer   = 192 << 10 // the approximate largest size of one part of an answer, in bytes
)

var (
	ErrTooLarge    = errors.New("crosscast: too large")    // crosscast.ErrTooLarge
	ErrInvalidName = errors.New("crosscast: invalid name") // crosscast.ErrInvalidName
)

// Error describes a limit that an argument broke. It matches [ErrInvalidName] for names, and [ErrTooLarge] for
// everything else.
type Error struct {
	What string // "room", "user", "event", "namespace", "socket", "payload", …
	Len  int    // length of the argument, in bytes (or entries, for lists)
	Max  int    // the limit; names must also not be empty
	Name bool   // the limit is one for names
	// Bytes means that Len counts bytes of something else than a name.
	Bytes bool
}

func (e *Error) Error() string {
	if e.Name && e.Len == 0 {
		return fmt.Sprintf("crosscast: empty %s name", e.What)
	}
	if e.Name {
		return fmt.Sprintf("crosscast: %s name of %d bytes (at most %d)", e.What, e.Len, e.Max)
	}
	unit := ""
	if e.Bytes {
		unit = " bytes"
	}
	return fmt.Sprintf("crosscast: %s of %d%s (at most %d)", e.What, e.Len, unit, e.Max)
}

// Is matches ErrInvalidName and ErrTooLarge.
func (e *Error) Is(target error) bool {
	if e.Name {
		return target == ErrInvalidName
	}
	return target == ErrTooLarge
}
