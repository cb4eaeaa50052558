package redisbus

import "regexp"

// Discreet returns err without the arguments of an unknown command, which a server repeats. The command might be AUTH
// or HELLO, with a name and a password.
func Discreet(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	short := repeated.ReplaceAllString(text, "")
	if short == text {
		return err
	}
	return &discreet{err, short}
}

var repeated = regexp.MustCompile(`(?m),? *with args beginning with:.*$`)

type discreet struct {
	err  error
	text string
}

func (d *discreet) Error() string { return d.text }
func (d *discreet) Unwrap() error { return d.err }
