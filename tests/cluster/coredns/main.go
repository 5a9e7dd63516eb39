// Program coredns is CoreDNS with the few plugins that a cluster on one machine needs.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
)

func main() {
	// Plugins see a question in this order.
	dnsserver.Directives = []string{"bind", "errors", "kubernetes"}
	coremain.Run()
}
