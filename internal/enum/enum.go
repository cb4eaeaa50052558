// Package enum names the values of enumerations.
package enum

import "strconv"

// Name returns names[v], or the number if v has no name.
func Name[V ~uint8](v V, names ...string) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return strconv.Itoa(int(v))
}
