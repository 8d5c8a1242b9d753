module mabeam.dev/cluster/probe

go 1.21
