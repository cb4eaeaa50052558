package crosscast

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/crosscast/crosscast/internal/errtext"
	"github.com/crosscast/crosscast/internal/limit"
)

var (
	// ErrClosed: the node, socket, queue or adapter was closed before.
	ErrClosed = errors.New("crosscast: closed")
	// ErrDraining: the node is about to close, and takes no new sockets: see Node.Drain.
	ErrDraining = errors.New("crosscast: draining")
	// ErrNotConnected: the link to the bus is down. Local sockets were served; peers were not and will not be.
	ErrNotConnected = errors.New("crosscast: not connected")
	// ErrDenied: the bus refuses the credentials, the channel or the command.
	ErrDenied = errors.New("crosscast: denied by the bus")
	// ErrRefused: no peer got the instruction.
	ErrRefused = errors.New("crosscast: refused")
	// ErrUncertain: peers might have got the instruction.
	ErrUncertain = errors.New("crosscast: outcome uncertain")
	// ErrBusy: too many queries, requests or watches are under way.
	ErrBusy = errors.New("crosscast: too much under way")
	// ErrExpired: a node did not execute a query, request or command, because its sender might not have waited any
	// more. The node's process, or the bus, had stood still.
	ErrExpired = errors.New("crosscast: expired before it was read")
	// ErrEmitOnly: an emitter (Options.EmitOnly) has no sockets, subscriptions, watches or request handlers.
	ErrEmitOnly = errors.New("crosscast: not for an emitter")
	// ErrTooLarge is matched by the error of an argument that breaks a limit of size.
	ErrTooLarge = limit.ErrTooLarge
	// ErrInvalidName is matched by the error of a name that is empty, too long or not allowed.
	ErrInvalidName = limit.ErrInvalidName
	// ErrDropped is returned by a [Conn] that dropped one message and goes on.
	ErrDropped = errors.New("crosscast: message dropped")
	// ErrSlow is returned by a [Conn] whose client is too slow. The node closes the socket.
	ErrSlow = errors.New("crosscast: client too slow")
)

// A NamesError holds the names of a call that have failed, with their errors. It matches every error in Failed.
type NamesError struct {
	Failed map[Address]error
}

// Error lists at most three names.
func (e *NamesError) Error() string {
	const listed = 3
	var texts []string
	for i, err := range e.Unwrap() {
		if i == listed {
			texts = append(texts, fmt.Sprintf("and %d more names", len(e.Failed)-listed))
			break
		}
		texts = append(texts, err.Error())
	}
	return errtext.One(strings.Join(texts, "; "))
}

// Unwrap returns each error in Failed, ordered by name.
func (e *NamesError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed))
	for _, name := range slices.SortedFunc(maps.Keys(e.Failed), compareAddresses) {
		errs = append(errs, e.Failed[name])
	}
	return errs
}

func compareAddresses(a, b Address) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Space, b.Space), cmp.Compare(a.Name, b.Name))
}

// checkName returns an error if name is not allowed.
func checkName(what, name string) error {
	if len(name) == 0 || len(name) > limit.Name {
		return &limit.Error{What: what, Len: len(name), Max: limit.Name, Name: true}
	}
	return nil
}

func checkNames(what string, names []string) error {
	for _, n := range names {
		if err := checkName(what, n); err != nil {
			return err
		}
	}
	return nil
}

// An IncompleteError lists the nodes and clients whose answers are missing from a result. The answers in the result are
// correct. It matches every error in Missing: a context's error if the deadline had passed, the adapter's if a peer could
// not be asked.
type IncompleteError struct {
	// Missing are the nodes that did not answer, or not completely.
	Missing []MissingNode
	// Silent are the sockets that did not reply to an acknowledged emission, or closed before, if their nodes reported
	// them. If the nodes reported only a number, an empty ID stands for each, up to 1,024.
	Silent []SocketID
}

// A MissingNode is a node whose answer is missing: in an [IncompleteError], or for a [Watch].
type MissingNode struct {
	// ID is empty for unknown nodes: the adapter cannot name them, they could not be asked, or an emitter could not
	// find them.
	ID NodeID
	// Name is the node's label ([Options].Name); empty if not known.
	Name string
	// Err is the reason. An error that the node itself sent is a [*RemoteError].
	Err error
}

// A RemoteError is an error of another node, which answered with its text. It matches [ErrExpired] if the text says so.
type RemoteError struct {
	Node NodeID // the node that failed; empty if the adapter cannot name it
	Text string
}

// Error returns the text alone.
func (e *RemoteError) Error() string { return e.Text }

// Is matches [ErrExpired].
func (e *RemoteError) Is(target error) bool { return target == ErrExpired && e.Text == expired }

// expired is the text of a node's answer to a query that came too late.
const expired = "expired"

func (e *IncompleteError) Error() string {
	const listed = 4
	var missing []string
	for i, m := range e.Missing {
		if i == listed {
			missing = append(missing, fmt.Sprintf("%d more nodes", len(e.Missing)-listed))
			break
		}
		if m.ID == "" {
			missing = append(missing, m.Err.Error())
			continue
		}
		missing = append(missing, fmt.Sprintf("node %s: %v", nodeText(m.Name, m.ID), m.Err))
	}
	if len(e.Silent) > 0 {
		missing = append(missing, fmt.Sprintf("%d sockets did not reply", len(e.Silent)))
	}
	return errtext.One("crosscast: incomplete: " + strings.Join(missing, "; "))
}

// nodeText names a node in an error, by its name, if that is known, and its ID. In a log it is nodeLabel.
func nodeText(name string, id NodeID) string {
	if name == "" {
		return string(id)
	}
	return fmt.Sprintf("%q (%s)", name, id)
}

// Unwrap returns each error in Missing, for errors.Is.
func (e *IncompleteError) Unwrap() []error {
	errs := make([]error, len(e.Missing))
	for i, m := range e.Missing {
		errs[i] = m.Err
	}
	return errs
}
