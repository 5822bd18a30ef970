// cert-manager's answers to HTTP-01 challenges, with the flags that its Pods give.
package main

import (
	"flag"

	"k8s.io/klog/v2"

	"github.com/cert-manager/cert-manager/pkg/issuer/acme/http/solver"
)

func main() {
	var s solver.HTTP01Solver
	flag.IntVar(&s.ListenPort, "listen-port", 8089, "")
	flag.StringVar(&s.Domain, "domain", "", "")
	flag.StringVar(&s.Token, "token", "", "")
	flag.StringVar(&s.Key, "key", "", "")
	flag.Parse()
	if err := s.Listen(klog.Background()); err != nil {
		klog.Fatal(err)
	}
}
