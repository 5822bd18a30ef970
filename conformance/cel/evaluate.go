// Evaluates expressions as Kubernetes does: one of each line of its input, variables from its argument.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
)

func show(v ref.Val) string {
	switch x := v.(type) {
	case *types.Err:
		return "ERR " + x.Error()
	case types.String:
		return fmt.Sprintf("string %q", string(x))
	case *types.Optional:
		if x.HasValue() {
			return "optional " + show(x.GetValue())
		}
		return "none"
	}
	j, err := v.ConvertToNative(types.JSONValueType)
	if err != nil {
		return fmt.Sprintf("%s %v", v.Type().TypeName(), v.Value())
	}
	b, _ := json.Marshal(j)
	return v.Type().TypeName() + " " + string(b)
}

func main() {
	es := environment.MustBaseEnvSet(version.MajorMinor(1, 37))
	es, err := es.Extend(environment.VersionedOptions{IntroducedVersion: version.MajorMinor(1, 0), EnvOptions: []cel.EnvOption{cel.Variable("object", cel.DynType), cel.Variable("n", cel.IntType), cel.Variable("l", cel.ListType(cel.IntType)), cel.Variable("m", cel.MapType(cel.StringType, cel.StringType))}})
	if err != nil {
		panic(err)
	}
	env := es.StoredExpressionsEnv()
	var vars map[string]any
	json.Unmarshal([]byte(os.Args[1]), &vars)
	fix(vars)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var expr string
		json.Unmarshal(in.Bytes(), &expr)
		out := map[string]any{}
		ast, iss := env.Compile(expr)
		if iss.Err() != nil {
			out["compile"] = iss.String()
		} else {
			out["type"] = ast.OutputType().String()
			prg, err := env.Program(ast)
			if err != nil {
				out["program"] = err.Error()
			} else {
				val, det, err := prg.Eval(vars)
				if err != nil {
					out["err"] = err.Error()
				} else {
					out["value"] = show(val)
				}
				if det != nil && det.ActualCost() != nil {
					out["cost"] = *det.ActualCost()
				}
			}
		}
		b, _ := json.Marshal(out)
		fmt.Println(string(b))
	}
}

func fix(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			x[k] = fix(e)
		}
	case []any:
		for i, e := range x {
			x[i] = fix(e)
		}
	case float64:
		if x == float64(int64(x)) {
			return int64(x)
		}
	}
	return v
}
