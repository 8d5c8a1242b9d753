//go:build tools

// Package tools pins the upstream command that the embedded cluster builds, unmodified.
package tools

import _ "helm.sh/helm/v3/cmd/helm"
