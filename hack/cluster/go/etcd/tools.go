//go:build tools

// Package tools pins the upstream command that the embedded cluster builds, unmodified.
package tools

import _ "go.etcd.io/etcd/server/v3"
