// The kind that this operator looks after, in two versions: v1 is stored, v1beta1 has the same with one name changed.
package main

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/conversion"
)

var (
	v1      = schema.GroupVersion{Group: "clients.test", Version: "v1"}
	v1beta1 = schema.GroupVersion{Group: "clients.test", Version: "v1beta1"}
)

type Spec struct {
	Greeting string `json:"greeting"`
	Replicas int32  `json:"replicas,omitempty"`
}

type Status struct {
	Ready      int32              `json:"ready"`
	Leader     string             `json:"leader,omitempty"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

type Website struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              Spec   `json:"spec"`
	Status            Status `json:"status,omitempty"`
}

type WebsiteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Website `json:"items"`
}

type OldSpec struct {
	Text     string `json:"text"`
	Replicas int32  `json:"replicas,omitempty"`
}

type OldWebsite struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              OldSpec `json:"spec"`
	Status            Status  `json:"status,omitempty"`
}

func (s Status) copy() Status {
	s.Conditions = append([]metav1.Condition(nil), s.Conditions...)
	return s
}

func (w *Website) DeepCopyObject() runtime.Object {
	out := *w
	w.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status = w.Status.copy()
	return &out
}

func (l *WebsiteList) DeepCopyObject() runtime.Object {
	out := WebsiteList{TypeMeta: l.TypeMeta, Items: make([]Website, 0, len(l.Items))}
	l.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range l.Items {
		out.Items = append(out.Items, *l.Items[i].DeepCopyObject().(*Website))
	}
	return &out
}

func (w *OldWebsite) DeepCopyObject() runtime.Object {
	out := *w
	w.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	out.Status = w.Status.copy()
	return &out
}

func (w *Website) Hub() {}

func (w *OldWebsite) ConvertTo(hub conversion.Hub) error {
	to, ok := hub.(*Website)
	if !ok {
		return fmt.Errorf("not a Website: %T", hub)
	}
	to.ObjectMeta, to.Status = w.ObjectMeta, w.Status
	to.Spec = Spec{Greeting: w.Spec.Text, Replicas: w.Spec.Replicas}
	return nil
}

func (w *OldWebsite) ConvertFrom(hub conversion.Hub) error {
	from, ok := hub.(*Website)
	if !ok {
		return fmt.Errorf("not a Website: %T", hub)
	}
	w.ObjectMeta, w.Status = from.ObjectMeta, from.Status
	w.Spec = OldSpec{Text: from.Spec.Greeting, Replicas: from.Spec.Replicas}
	return nil
}

func addTypes(scheme *runtime.Scheme) {
	scheme.AddKnownTypeWithName(v1.WithKind("Website"), &Website{})
	scheme.AddKnownTypeWithName(v1.WithKind("WebsiteList"), &WebsiteList{})
	scheme.AddKnownTypeWithName(v1beta1.WithKind("Website"), &OldWebsite{})
	metav1.AddToGroupVersion(scheme, v1)
	metav1.AddToGroupVersion(scheme, v1beta1)
}
