package wire

import "slices"

// spare keeps the memory of sent frames for reuse: frames, each with a small buffer for a single instruction or with
// none, and buffers.
type spare struct {
	frames  []*frame
	small   [][]byte                   // of frames that have grown
	buffers [len(bufferSizes)][][]byte // of frames that grow
	large   [][]byte                   // of other sizes, at least largeBytes, oldest first
	bytes   int                        // of all
}

// bufferSizes are the least sizes of the larger buffers, in bytes.
var bufferSizes = [...]int{512, 2 << 10, 8 << 10, 32 << 10, packBytes + 8<<10}

// takeFrame returns a frame. While the link is down the frame is new and has no buffer, because waiting frames must
// take as little memory as possible.
func (s *spare) takeFrame(up bool) *frame {
	n := len(s.frames)
	if n == 0 || !up {
		return &frame{}
	}
	f := s.frames[n-1]
	s.frames[n-1] = nil
	s.frames = s.frames[:n-1]
	s.bytes -= frameBytes + cap(f.buf)
	return f
}

// takeSmall returns a buffer with room for size bytes; nil: there is none. Then it gives up one that is too small, so that
// the buffers come to have the sizes that are wanted.
func (s *spare) takeSmall(size int) []byte {
	b := s.takeLast(&s.small)
	if cap(b) < size {
		return nil
	}
	return b
}

// takeLast returns the buffer of a list that was kept last; nil: the list is empty.
func (s *spare) takeLast(list *[][]byte) []byte {
	n := len(*list)
	if n == 0 {
		return nil
	}
	b := (*list)[n-1]
	(*list)[n-1] = nil
	*list = (*list)[:n-1]
	s.bytes -= cap(b)
	return b
}

// grow makes room for size more bytes of a frame. The frame then takes at most room more bytes of memory, or exactly
// what it needs. Its old buffer is kept for reuse.
func (s *spare) grow(f *frame, size, room, limit int) {
	size += len(f.buf)
	if cap(f.buf) >= size {
		return
	}
	i := 0
	for bufferSizes[i] < size { // size is at most packBytes
		i++
	}
	if bufferSizes[i]-cap(f.buf) > room {
		f.buf = append(make([]byte, 0, size), f.buf...)
		return
	}
	b := s.takeLast(&s.buffers[i])
	if b == nil {
		b = make([]byte, 0, bufferSizes[i])
	}
	old := f.buf
	f.buf = append(b, old...)
	s.keepBuffer(old, limit)
}

// takeLarge returns a buffer with room for size bytes, and not for many times as much; nil: there is none. Then it
// gives up the oldest one, so that the buffers come to have the sizes that are wanted.
func (s *spare) takeLarge(size int) (b []byte) {
	i := len(s.large) - 1
	for i > 0 && (cap(s.large[i]) < size || cap(s.large[i]) > 4*size) {
		i--
	}
	if i < 0 {
		return nil
	}
	b = s.large[i]
	s.bytes -= cap(b)
	s.large = slices.Delete(s.large, i, i+1)
	if cap(b) < size || cap(b) > 4*size {
		return nil
	}
	return b
}

// keepBuffer keeps a buffer for reuse, unless spare would then hold more than limit bytes.
func (s *spare) keepBuffer(b []byte, limit int) {
	if cap(b) == 0 || s.bytes+cap(b) > limit {
		return
	}
	s.bytes += cap(b)
	if cap(b) < bufferSizes[0] {
		s.small = append(s.small, b[:0])
		return
	}
	i := len(bufferSizes) - 1
	for bufferSizes[i] > cap(b) {
		i--
	}
	if cap(b) >= largeBytes && cap(b) != bufferSizes[i] {
		s.large = append(s.large, b[:0])
		return
	}
	s.buffers[i] = append(s.buffers[i], b[:0])
}

// keepFrame keeps f for reuse, unless spare would then hold more than limit bytes.
func (s *spare) keepFrame(f *frame, limit int) {
	buf, deliveries := f.buf[:0], f.deliveries[:0]
	if cap(buf) >= bufferSizes[0] {
		s.keepBuffer(buf, limit)
		buf = nil
	}
	if s.bytes+frameBytes+cap(buf) > limit {
		return
	}
	s.bytes += frameBytes + cap(buf)
	clear(f.deliveries)
	if cap(deliveries) > 16 {
		deliveries = nil
	}
	*f = frame{buf: buf, deliveries: deliveries}
	s.frames = append(s.frames, f)
}
