// A dashboard's JSON, as Grafana's own declarations describe it. `cargo xtask test` writes each board as
// constants of these types, one per panel, so that whatever they do not know does not compile: a
// misspelled option, a value that an enum has not, a query without its data source.
//
// Stricter than Grafana where a slip would only be seen on the screen: units, variables, overrides.

import type * as schema from "@grafana/schema";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeseries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type * as prometheus from "@grafana/grafana-foundation-sdk/prometheus";
import type * as units from "@grafana/grafana-foundation-sdk/units";

/** Enums are text in JSON. */
type Json<T> = T extends string
  ? `${T}`
  : T extends object
    ? { [K in keyof T]: Json<T[K]> }
    : T;

/** Grafana fills in what a panel's options leave out. */
type Partly<T> = T extends object ? { [K in keyof T]?: Partly<T[K]> } : T;

type With<T, New> = Omit<T, keyof New> & New;

type Source = { type: "prometheus"; uid: "${datasource}" };
type Query = With<
  Json<Omit<prometheus.Dataquery, "_implementsDataqueryVariant">>,
  { refId: string; datasource: Source }
>;

type Unit = (typeof units)[keyof typeof units];
type Link = { title: string; url: `/d/endiod-${string}`; targetBlank?: boolean };
/** The settings of a field; `Custom` are those that only this kind of panel has. */
type Field<Custom> = With<
  Json<schema.FieldConfig>,
  { unit: Unit; links?: Link[]; custom?: Partly<Json<Custom>> }
>;

/** An override sets one setting, by its path. */
type Property<Custom> =
  | { [K in keyof Field<Custom>]-?: { id: K; value: Field<Custom>[K] } }[keyof Field<Custom>]
  | { [K in keyof Custom & string]-?: { id: `custom.${K}`; value: Json<Custom[K]> } }[keyof Custom & string];
type Override<Custom> = {
  matcher: { id: "byName" | "byRegexp"; options: string };
  properties: Property<Custom>[];
};

type Names<T> = { [name: string]: T };
type Transformation =
  | { id: "merge"; options: {} }
  | {
      id: "organize";
      options: {
        excludeByName?: Names<boolean>;
        includeByName?: Names<boolean>;
        indexByName?: Names<number>;
        renameByName?: Names<string>;
      };
    }
  | { id: "sortBy"; options: { sort: { field: string; desc?: boolean }[] } };

/** What each kind of panel has of its own. */
type Kinds = {
  heatmap: { options: heatmap.Options; custom: heatmap.FieldConfig };
  stat: { options: stat.Options; custom: {} };
  table: { options: table.Options; custom: table.FieldConfig };
  timeseries: { options: timeseries.Options; custom: timeseries.FieldConfig };
};

type PanelOf<Kind extends keyof Kinds> = With<
  Json<Omit<schema.Panel, "options" | "fieldConfig">>,
  {
    id: number;
    type: Kind;
    title: string;
    description: string;
    gridPos: schema.GridPos;
    datasource: Source;
    targets: Query[];
    options: Partly<Json<Kinds[Kind]["options"]>>;
    fieldConfig: {
      defaults: Field<Kinds[Kind]["custom"]>;
      overrides: Override<Kinds[Kind]["custom"]>[];
    };
    transformations?: Transformation[];
  }
>;

/** A panel, by its type; the panels of a row that is not collapsed stand after it. */
export type Panel<Kind extends keyof Kinds | "row"> = Kind extends keyof Kinds
  ? PanelOf<Kind>
  : With<Json<schema.RowPanel>, { title: string; collapsed: false; panels: [] }>;

type Chosen = { text: string[]; value: string[] };
type Variable =
  | { type: "datasource"; name: "datasource"; label: string; query: "prometheus"; refresh: schema.VariableRefresh }
  | With<
      Omit<schema.VariableModel, "options">,
      { type: "query"; label: string; datasource: Source; query: { query: string; refId: string }; current: Chosen }
    >
  | With<schema.VariableModel, { type: "custom"; label: string; query: string; current: Chosen }>;

/** The data source takes two settings of its own beside the query. */
type Annotation = With<
  Json<Omit<schema.AnnotationQuery, "target">>,
  { datasource: Source; target: Query; titleFormat?: string; textFormat?: string }
>;

/** A board without its panels. */
export type Board = With<
  Json<Omit<schema.Dashboard, "panels">>,
  {
    uid: string;
    title: string;
    description: string;
    tags: string[];
    annotations: { list: Annotation[] };
    templating: { list: Variable[] };
  }
>;
