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
		l.Add(i, func(old *int) bool { *old = -1; return false })
	}
	all := l.All()
	if want := []int{4, 3, 2}; !slices.Equal(all, want) {
		t.Errorf("%v, not %v", all, want)
	}
	l.Add(0, func(old *int) bool {
		is3 := *old == 3
		*old += 10
		return is3
	})
	if want := []int{13, 4, 2}; !slices.Equal(l.All(), want) {
		t.Errorf("%v, not %v", l.All(), want)
	}
	all = l.All()
	all[0] = 9
	if l.All()[0] != 13 {
		t.Error("a copy changes the list")
	}
}
