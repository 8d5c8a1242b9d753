module mabeam.dev/cluster/pause

go 1.21
