package latest

import (
	"slices"
	"testing"
)

func TestList(t *testing.T) {
	l := List[int]{Most: 3}
	if got := l.All(); got == nil || len(got) != 0 {
		t.Errorf("an empty list is %#v", got)
	}
	for i := range 5 {
		l.Add(i)
	}
	all := l.All()
	if want := []int{4, 3, 2}; !slices.Equal(all, want) {
		t.Errorf("%v, not %v", all, want)
	}
	all[0] = 9
	if l.All()[0] != 4 {
		t.Error("a copy changes the list")
	}
}
