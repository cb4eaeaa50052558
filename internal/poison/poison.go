// Package poison is how package crosscasttest makes messages that are kept for too long show.
package poison

// On makes a node overwrite each message after its last Conn.Send has returned, instead of reusing it. It is set while
// packages are initialized.
var On bool

// Text is in the fields of an overwritten message.
const Text = "crosscast: this message was kept after Conn.Send had returned: keep a Message.Clone"
