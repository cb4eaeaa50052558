// Package errtext makes errors that say "crosscast:" once, in front, whatever they wrap.
package errtext

import (
	"fmt"
	"regexp"
)

// prefix is what the errors of the module's packages begin with, once or several times.
var prefix = regexp.MustCompile(`(^|[ (])(crosscast(?:/[a-z]+)*: )(?:crosscast(?:/[a-z]+)*: )*`)

// Errorf is fmt.Errorf. If the errors that it wraps have a prefix, the text has one in front, and no other.
func Errorf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	text := err.Error()
	if one := One(text); one != text {
		return &oneError{one, err}
	}
	return err
}

// One moves the first prefix of text to the front, and removes the others.
func One(text string) string {
	found := prefix.FindStringSubmatchIndex(text)
	if found == nil {
		return text
	}
	return text[found[4]:found[5]] + prefix.ReplaceAllString(text, "$1")
}

type oneError struct {
	text string
	err  error
}

func (e *oneError) Error() string { return e.text }

func (e *oneError) Unwrap() error { return e.err }
