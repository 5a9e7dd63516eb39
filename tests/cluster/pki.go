package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of everything that is signed here; a cluster lives for minutes.
const lifetime = 30 * 24 * time.Hour

// authority signs every certificate of one cluster.
type authority struct {
	folder      string
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	pem         []byte
}

// makePKI makes the authority, the certificates of all components and their kubeconfigs, and the one for the owner, which
// leads to the address by which the API server is reached from outside.
func makePKI(folder, outside string) error {
	ca, err := newAuthority(filepath.Join(folder, "pki"))
	if err != nil {
		return err
	}
	if err := ca.serviceAccountKey(); err != nil {
		return err
	}
	server := pkix.Name{CommonName: "kube-apiserver"}
	names := []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
	if _, _, err := ca.issue("apiserver", server, names, "127.0.0.1", apiAddress, nodeAddress); err != nil {
		return err
	}
	inside := "https://127.0.0.1:6443"
	for _, user := range []struct {
		file, name, group, server string
	}{
		{"admin", "admin", "system:masters", inside},
		{"controller-manager", "system:kube-controller-manager", "", inside},
		{"scheduler", "system:kube-scheduler", "", inside},
		{"proxy", "system:kube-proxy", "", inside},
		{"coredns", "admin", "system:masters", inside},
		{"kubelet", "system:node:" + nodeName, "system:nodes", inside},
		{"owner", "owner", "system:masters", "https://" + outside},
	} {
		subject := pkix.Name{CommonName: user.name}
		if user.group != "" {
			subject.Organization = []string{user.group}
		}
		certificate, key, err := ca.issue(user.file, subject, []string{nodeName}, nodeAddress)
		if err != nil {
			return err
		}
		if err := ca.kubeconfig(user.file, user.server, certificate, key); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(folder, "pki", "owner.kubeconfig"), filepath.Join(folder, "kubeconfig"))
}

func newAuthority(folder string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "cluster"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	ca := &authority{folder, key, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ca, ca.write("ca", ca.pem, keyPEM)
}

// issue signs a certificate that is good for a server and for a client.
func (ca *authority) issue(file string, subject pkix.Name, names []string, addresses ...string) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		DNSNames:     names,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, address := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, private.Public(), ca.key)
	if err != nil {
		return nil, nil, err
	}
	certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if key, err = encodeKey(private); err != nil {
		return nil, nil, err
	}
	return certificate, key, ca.write(file, certificate, key)
}

// serviceAccountKey is what the tokens of service accounts are signed with.
func (ca *authority) serviceAccountKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(ca.folder, "service-accounts.key"), keyPEM, 0o600)
}

func (ca *authority) write(file string, certificate, key []byte) error {
	path := filepath.Join(ca.folder, file)
	if err := os.WriteFile(path+".crt", certificate, 0o644); err != nil {
		return err
	}
	return os.WriteFile(path+".key", key, 0o600)
}

// kubeconfig holds all that it needs, so that it can be copied anywhere.
func (ca *authority) kubeconfig(file, server string, certificate, key []byte) error {
	encode := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: postern-test
contexts:
- name: postern-test
  context: {cluster: postern-test, user: postern-test}
clusters:
- name: postern-test
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: postern-test
  user:
    client-certificate-data: %s
    client-key-data: %s
`, server, encode(ca.pem), encode(certificate), encode(key))
	return os.WriteFile(filepath.Join(ca.folder, file+".kubeconfig"), []byte(text), 0o600)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}
