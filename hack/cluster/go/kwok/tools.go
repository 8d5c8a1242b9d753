//go:build tools

// Package tools pins the upstream command that the embedded cluster builds, unmodified.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
