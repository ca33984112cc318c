from hyb import H
from tests.tiny_models import make_model
from nad_agents.engine.hf.memory import ModelShape
for f in H:
    m=make_model(f, **H[f])
    try: print(f, ModelShape.of(m.config, m.dtype))
    except Exception as e:
        import traceback; traceback.print_exc(limit=-2)
    t=m.config.get_text_config(decoder=True)
    print("   ", getattr(t,"layer_types",None), getattr(t,"kv_sharing_modes",None), [ (getattr(c,"head_dim",None), getattr(c,"num_key_value_heads",None)) for c in t.per_layer_config][:4])
