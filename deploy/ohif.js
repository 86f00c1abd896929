// OHIF beside Orthanc. It asks the archive from the browser, which signs in there.
window.config = {
  routerBasename: "/",
  showStudyList: true,
  extensions: [],
  modes: [],
  defaultDataSourceName: "archive",
  dataSources: [
    {
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
      sourceName: "archive",
      configuration: {
        friendlyName: "Archive",
        name: "archive",
        wadoUriRoot: "http://127.0.0.1:8042/wado",
        qidoRoot: "http://127.0.0.1:8042/dicom-web",
        wadoRoot: "http://127.0.0.1:8042/dicom-web",
        qidoSupportsIncludeField: false,
        imageRendering: "wadors",
        thumbnailRendering: "wadors",
        enableStudyLazyLoad: true,
      },
    },
  ],
};
